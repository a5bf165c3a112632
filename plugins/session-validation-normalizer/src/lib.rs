//! One session check for every service
