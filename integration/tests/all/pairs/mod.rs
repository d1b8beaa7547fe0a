//! Every source/target pair of protocols, by the real program on real brokers: what arrives is what was written.

mod many;
pub mod nasty;
mod native;
mod nine;
mod ring;
mod routes;
mod schemas;
pub mod site;
