//! What no list may hold, whatever its publisher says: networks too wide, and space that is nobody's on the internet.

use serde::{Deserialize, Serialize};

use super::Networks;
use crate::config::Network;

/// The widest network that a list may hold.
pub const WIDEST_V4: u8 = 8;
pub const WIDEST_V6: u8 = 19;
/// Refusals that are kept to be shown.
const SHOWN: usize = 20;

/// What is left of a list, and what was refused of it.
#[derive(Clone, Debug, Default)]
pub struct Screened {
    pub networks: Networks,
    pub refused: Refusals,
}

/// Entries that were refused or cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusals {
    pub count: u64,
    /// The first of them.
    pub shown: Vec<Refusal>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub network: Network,
    pub why: String,
}

impl Refusals {
    pub fn add(&mut self, network: Network, why: impl FnOnce() -> String) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(Refusal { network, why: why() });
        }
    }
}

/// Whether a network is wider than any list may hold.
pub fn is_too_wide(network: Network) -> bool {
    network.prefix_len() < if network.is_ipv4() { WIDEST_V4 } else { WIDEST_V6 }
}

/// Space that no source on the internet has: IANA's special-purpose registries, RFC 6890 and its successors.
const RESERVED: [(&str, &str); 21] = [
    ("0.0.0.0/8", "this network"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by carriers"),
    ("127.0.0.0/8", "loopback"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "protocol assignments"),
    ("192.0.2.0/24", "documentation"),
    ("192.168.0.0/16", "private"),
    ("198.18.0.0/15", "benchmarks"),
    ("198.51.100.0/24", "documentation"),
    ("203.0.113.0/24", "documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    // All of IPv6 but 2000::/3.
    ("::/3", "reserved, loopback among it"),
    ("4000::/2", "reserved"),
    ("8000::/2", "reserved"),
    ("c000::/2", "private, link-local or multicast"),
    ("2001:db8::/32", "documentation"),
    ("3fff::/20", "documentation"),
    ("2001::/23", "protocol assignments"),
];

/// Takes out what no list may hold. Of a network that meets reserved space the rest stays.
pub fn screen(networks: Networks, private: bool) -> Screened {
    let mut refused = Refusals::default();
    let networks = without_wide(networks, &mut refused);
    let networks = if private { networks } else { without_reserved(networks, &mut refused) };
    Screened { networks, refused }
}

fn without_wide(networks: Networks, refused: &mut Refusals) -> Networks {
    let narrow_v4 = |length: u8| length >= WIDEST_V4;
    let narrow_v6 = |length: u8| length >= WIDEST_V6;
    let v4 = networks.v4().iter().filter(|network| !narrow_v4(network.length())).map(|one| Network::from(*one));
    let v6 = networks.v6().iter().filter(|network| !narrow_v6(network.length())).map(|one| Network::from(*one));
    let before = refused.count;
    for network in v4.chain(v6) {
        let widest = if network.is_ipv4() { WIDEST_V4 } else { WIDEST_V6 };
        refused.add(network, || format!("wider than /{widest}"));
    }
    if refused.count == before {
        return networks;
    }
    let v4 = networks.v4().iter().filter(|network| narrow_v4(network.length())).copied().collect();
    let v6 = networks.v6().iter().filter(|network| narrow_v6(network.length())).copied().collect();
    Networks::new(v4, v6)
}

fn without_reserved(networks: Networks, refused: &mut Refusals) -> Networks {
    let reserved = reserved();
    let all: Networks = reserved.iter().map(|(network, _)| *network).collect();
    let before = refused.count;
    for network in networks.meeting(&all) {
        let Some((space, what)) = reserved.iter().find(|(space, _)| space.overlaps(network)) else { continue };
        refused.add(network, || match space.contains(network) {
            true => format!("lies in {space}: {what}"),
            false => format!("{space} is cut out of it: {what}"),
        });
    }
    if refused.count == before { networks } else { networks.without(&all) }
}

fn reserved() -> Vec<(Network, &'static str)> {
    RESERVED.iter().filter_map(|(network, what)| Some((network.parse().ok()?, *what))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn screened(texts: &[&str], private: bool) -> (Vec<String>, Vec<String>) {
        let networks = texts.iter().map(|text| text.parse::<Network>().unwrap()).collect();
        let Screened { networks, refused } = screen(networks, private);
        let v4 = networks.v4().iter().map(|one| Network::from(*one).to_string());
        let left = v4.chain(networks.v6().iter().map(|one| Network::from(*one).to_string())).collect();
        assert_eq!(refused.count as usize, refused.shown.len());
        (left, refused.shown.iter().map(|one| format!("{} {}", one.network, one.why)).collect())
    }

    #[test]
    fn every_reserved_network_reads() {
        assert_eq!(reserved().len(), RESERVED.len());
    }

    #[test]
    fn the_whole_internet_is_no_entry() {
        let (left, refused) =
            screened(&["0.0.0.0/0", "8.0.0.0/7", "8.0.0.0/8", "::/0", "2000::/3", "2a00::/19"], false);
        assert_eq!(left, ["8.0.0.0/8", "2a00::/19"]);
        assert_eq!(refused.len(), 4);
        assert!(refused[0].contains("0.0.0.0/0 wider than /8"), "{refused:?}");
        assert!(screened(&["0.0.0.0/0"], true).0.is_empty(), "no setting lets in everything");
    }

    #[test]
    fn private_space_goes_unless_the_list_may_hold_it() {
        let bogons =
            ["10.0.0.0/8", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/4", "8.8.8.8/32", "fc00::/19", "fe80::1"];
        let (left, refused) = screened(&bogons, false);
        assert_eq!((left, refused.len()), (vec!["8.8.8.8/32".to_owned()], 6));
        let (left, refused) = screened(&bogons, true);
        assert_eq!(left.len(), 6, "{left:?}");
        assert_eq!(refused, ["224.0.0.0/4 wider than /8"]);
    }

    #[test]
    fn reserved_space_is_cut_out_of_a_wider_network() {
        let (left, refused) = screened(&["192.0.0.0/16", "2001::/20"], false);
        assert!(!left.iter().any(|one| one == "192.0.2.0/24" || one == "192.0.0.0/24"), "{left:?}");
        assert!(left.contains(&"192.0.1.0/24".to_owned()) && left.contains(&"192.0.128.0/17".to_owned()), "{left:?}");
        assert!(left.contains(&"2001:200::/23".to_owned()), "{left:?}");
        assert!(refused[0].contains("is cut out of it"), "{refused:?}");
    }
}
