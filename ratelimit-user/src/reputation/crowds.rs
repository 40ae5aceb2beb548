//! How many addresses of one IPv6 network are asked about.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

/// Whoever owns a /64 has more addresses than any budget has questions. Large senders use a few hundred of one.
const MOST_OF_ONE: u32 = 256;
const WINDOW: Duration = Duration::from_secs(3600);
/// Networks that are remembered; without room nobody new is asked about.
const MOST: usize = 1 << 16;

/// Addresses asked about of each /64, in the hour since the first of them.
#[derive(Debug, Default)]
pub struct Crowds(HashMap<u64, Crowd>);

#[derive(Clone, Copy, Debug)]
struct Crowd {
    asked: u32,
    since: Instant,
}

impl Crowds {
    /// Whether one more address may be asked about, which then counts. IPv4 addresses are few.
    pub fn admit(&mut self, source: IpAddr, at: Instant) -> bool {
        let IpAddr::V6(source) = source else { return true };
        let has_room = self.0.len() < MOST;
        let network = network_of(source);
        let Some(crowd) = self.0.get_mut(&network) else {
            if has_room {
                self.0.insert(network, Crowd { asked: 1, since: at });
            }
            return has_room;
        };
        if at.saturating_duration_since(crowd.since) >= WINDOW {
            *crowd = Crowd { asked: 0, since: at };
        }
        let is_admitted = crowd.asked < MOST_OF_ONE;
        crowd.asked += u32::from(is_admitted);
        is_admitted
    }

    /// Forgets those whose hour is over.
    pub fn expire(&mut self, at: Instant) {
        self.0.retain(|_, crowd| at.saturating_duration_since(crowd.since) < WINDOW);
    }
}

const fn network_of(source: Ipv6Addr) -> u64 {
    (source.to_bits() >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_asked_about_so_often_an_hour_and_others_are_not_held_to_it() {
        let start = Instant::now();
        let address = |network: u128, host: u128| IpAddr::from(Ipv6Addr::from_bits(network << 64 | host));
        let mut crowds = Crowds::default();
        let admitted = |crowds: &mut Crowds, at| (0..1000).filter(|host| crowds.admit(address(1, *host), at)).count();
        assert_eq!(admitted(&mut crowds, start), 256);
        assert!(crowds.admit(address(2, 1), start));
        assert!((0..1000).all(|_| crowds.admit(IpAddr::from([192, 0, 2, 1]), start)));
        assert_eq!(admitted(&mut crowds, start + WINDOW), 256);
        crowds.expire(start + 2 * WINDOW);
        assert!(crowds.0.is_empty());
        assert_eq!((0..1 << 17).filter(|network| crowds.admit(address(*network, 1), start)).count(), MOST);
    }
}
