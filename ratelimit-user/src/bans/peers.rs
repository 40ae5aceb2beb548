//! Where administrators came from of late, which nothing may block.

use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use super::{Book, StoreError};
use crate::changes::seconds;

/// The oldest goes when one more comes.
pub const MOST_PEERS: usize = 16;
/// How long a peer is remembered after it was last there.
pub const PEERS_KEPT: Duration = Duration::from_secs(7 * 24 * 3600);
/// A peer that was noted this recently is not noted again: every command brings one.
const NOTED_AGAIN: Duration = Duration::from_secs(3600);

impl Book {
    /// Remembers a peer. True if it was written down; in memory it is remembered also where that fails.
    pub fn note_peer(&mut self, peer: IpAddr, at: SystemTime) -> Result<bool, StoreError> {
        let now_s = seconds(at);
        let is_fresh = |seen_s: &u64| now_s.abs_diff(*seen_s) < NOTED_AGAIN.as_secs();
        if self.peers.get(&peer).is_some_and(is_fresh) {
            return Ok(false);
        }
        let mut peers = self.peers.clone();
        peers.insert(peer, now_s);
        peers.retain(|_, seen_s| is_kept(*seen_s, now_s));
        while peers.len() > MOST_PEERS {
            let oldest = peers.iter().filter(|(other, _)| **other != peer).min_by_key(|(_, seen_s)| **seen_s);
            let Some(oldest) = oldest.map(|(address, _)| *address) else { break };
            peers.remove(&oldest);
        }
        self.peers = peers;
        self.store.put_peers(&self.peers)?;
        Ok(true)
    }

    /// Those that are remembered, ascending.
    pub fn peers(&self, at: SystemTime) -> Vec<IpAddr> {
        let now_s = seconds(at);
        self.peers.iter().filter(|(_, seen_s)| is_kept(**seen_s, now_s)).map(|(peer, _)| *peer).collect()
    }
}

/// One of the future, noted before the clock was set back, is as good as one of now.
fn is_kept(seen_s: u64, now_s: u64) -> bool {
    now_s.saturating_sub(seen_s) < PEERS_KEPT.as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn peer(host: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, host).into()
    }

    #[test]
    fn peers_are_remembered_for_a_week_and_over_a_restart() {
        let state = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let mut book = Book::open(state.path()).unwrap();
        assert!(book.note_peer(peer(7), start).unwrap());
        assert!(!book.note_peer(peer(7), start + Duration::from_secs(60)).unwrap(), "noted a minute ago");
        drop(book);
        let mut book = Book::open(state.path()).unwrap();
        assert_eq!(book.peers(start), [peer(7)]);
        assert!(book.peers(start + PEERS_KEPT).is_empty());
        let later = start + Duration::from_secs(24 * 3600);
        assert!(book.note_peer(peer(7), later).unwrap());
        assert_eq!(book.peers(start + PEERS_KEPT), [peer(7)]);
        book.note_peer(peer(8), later + PEERS_KEPT).unwrap();
        assert_eq!(book.store.peers().unwrap().len(), 1, "the first has run out");
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let state = tempfile::tempdir().unwrap();
        let start = SystemTime::now();
        let mut book = Book::open(state.path()).unwrap();
        for host in 1..=MOST_PEERS as u8 + 2 {
            book.note_peer(peer(host), start + Duration::from_secs(host.into())).unwrap();
        }
        let kept: Vec<IpAddr> = (3..=MOST_PEERS as u8 + 2).map(peer).collect();
        assert_eq!(book.peers(start), kept);
        assert_eq!(book.store.peers().unwrap().into_keys().collect::<Vec<_>>(), kept);
    }

    #[test]
    fn a_peer_that_cannot_be_written_down_is_spared_all_the_same() {
        let state = tempfile::tempdir().unwrap();
        let mut book = Book::open(state.path()).unwrap();
        book.store.refuse_writing();
        book.note_peer(peer(7), SystemTime::now()).unwrap_err();
        assert_eq!(book.peers(SystemTime::now()), [peer(7)]);
    }
}
