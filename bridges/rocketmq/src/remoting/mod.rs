//! RocketMQ's remoting protocol over TCP, as far as a bridge needs it.
//!
//! It is our own and not `rocketmq-client-rust`, because moving messages needs what that client does not give: a send whose
//! copy is gone when its timeout has passed, an answered commit, errors with the broker's code, and a reconnect at once (its
//! breaker stays open for 30 s after five failed connects, and a rebuild leaks unless it is shut down).
//!
//! A frame is length (4), header length (4, of which the highest byte names the encoding, 0 = JSON), header, body
//! (`RemotingCommand.java`). Answers carry the request's `opaque` number and come in any order.
//! TLS is not spoken yet.

pub mod codes;
mod connection;
pub mod frame;
mod pool;
mod sign;

pub use connection::CallError;
pub use frame::{Answer, Request};
pub use pool::{Abandoned, Pool};
pub use sign::Credentials;
