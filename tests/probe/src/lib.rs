//! A hostile guest: misbehaves on request, by path
