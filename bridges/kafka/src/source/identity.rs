//! Who this instance is in its group, so that one that was killed and started again goes on at once.
//!
//! A dynamic member that dies without leaving holds its partitions until its session times out, and an instance killed
//! faster than that would never read anything. A static member (KIP-345) that comes back under its old identity gets its
//! partitions back without a rebalance. The identity must be free when its owner is dead and taken while it lives, also
//! on a host that runs several: a socket in the abstract name space is both, and leaves nothing behind.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
};

/// Instances on one host that get a static identity; further ones are dynamic members.
const SLOTS: u32 = 64;

/// A name in the group that no other instance on this host has while this value lives.
pub(super) struct Identity {
    pub name: String,
    _taken: UnixListener,
}

impl Identity {
    /// `None` where every slot is taken, or the system has no such sockets: then the member is a dynamic one.
    pub fn take(servers: &str, group: &str) -> Option<Self> {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        let mut hasher = DefaultHasher::new();
        (servers, group).hash(&mut hasher);
        let prefix = format!("trestle-{:016x}", hasher.finish());
        (0..SLOTS).find_map(|slot| {
            let address = SocketAddr::from_abstract_name(format!("{prefix}-{slot}")).ok()?;
            let taken = UnixListener::bind_addr(&address).ok()?;
            Some(Identity { name: format!("trestle-{}-{slot}", host.trim()), _taken: taken })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_taken_while_it_lives_and_the_first_one_is_free_again_afterwards() {
        let group = format!("identity-test-{}", std::process::id());
        let take = || Identity::take("127.0.0.1:9092", &group).unwrap();
        let (first, second) = (take(), take());
        assert_ne!(first.name, second.name);
        let name = first.name.clone();
        drop(first);
        assert_eq!(take().name, name);
    }
}
