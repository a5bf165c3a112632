//! Sessions while the primary services are away
