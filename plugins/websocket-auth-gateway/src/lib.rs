//! Authenticates sockets and hands out tickets
