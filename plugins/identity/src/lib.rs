//! Turns the claims of every token format in circulation into one identity
