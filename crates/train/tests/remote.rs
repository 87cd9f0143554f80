//! Training on a device of another process, over the loopback interface.
#![cfg(feature = "remote")]
