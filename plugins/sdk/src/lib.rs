//! What a Lockgate plugin is written with: bindings, routing, answers, authentication
