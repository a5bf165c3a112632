-- A users table for trials, with the columns that Lockgate looks at. In production the
-- table is the main API's; Lockgate only reads it.
CREATE TABLE IF NOT EXISTS users (
    id bigint PRIMARY KEY,
    username text,
    email text NOT NULL,
    role text NOT NULL DEFAULT 'user',
    is_active boolean NOT NULL DEFAULT true,
    status text NOT NULL DEFAULT 'active'
);
INSERT INTO users (id, username, email) VALUES (42, 'ada', 'ada@example.org')
    ON CONFLICT DO NOTHING;
