//! Clusters that show only a gRPC proxy. Only built with the feature `proxy`.
//!
//! Topics are written by Apache's gRPC client. The proxy places messages, so that a topic is one partition here, and one message is
//! sent at a time. What the client does runs on a thread and a runtime of its own ([`link`]), which end with whatever went wrong:
//! it keeps its routes and sessions for ever, and panics where it does not reach a broker or does not know an answer's code.
//!
//! Topics are read by a small client of our own ([`client`], [`source`]), on tonic, which the other one brings along. Apache's hands
//! out a body as it is stored and does not say when its producer compressed it; it cannot keep a message invisible for longer while
//! it waits to be settled; it cuts times to seconds; and it stays silent for good after a proxy was restarted.

mod brokers;
mod classify;
mod client;
mod connector;
mod link;
mod message;
mod protocol;
mod session;
mod sink;
mod source;

pub use connector::connector;
