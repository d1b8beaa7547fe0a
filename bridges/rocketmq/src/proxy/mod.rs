//! Clusters that show only a gRPC proxy, by Apache's gRPC client. Only built with the feature `proxy`.
//!
//! The proxy places messages, so that a topic is one partition here, and one message is sent at a time. What the client does
//! runs on a thread and a runtime of its own ([`link`]), which end with whatever went wrong: it keeps its routes and sessions
//! for ever, and panics where it does not reach a broker or does not know an answer's code.
//!
//! Topics are only written. The client hands out a body as it is stored and does not say when its producer compressed it; it
//! cannot keep a message invisible for longer while it waits to be settled, so that the proxy would move it to the group's
//! dead-letter topic after 17 deliveries; and it cuts times to seconds.

mod classify;
mod connector;
mod link;
mod message;
mod sink;

pub use connector::connector;
