//! Health of all services and login state kept in step
