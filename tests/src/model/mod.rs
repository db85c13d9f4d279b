//! Models of what Overlord commands: pure state machines in virtual time, held to the real programs by the same
//! scripts on both (`tests/models`).

pub mod redis;
