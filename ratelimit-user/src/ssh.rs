//! Who sits at the other end of the SSH connection that a process runs under.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use crate::config::fold_address;

/// As sshd sets them: the peer's address stands first.
const VARIABLES: [&[u8]; 2] = [b"SSH_CONNECTION=", b"SSH_CLIENT="];
/// More than any shell nests; a loop among the files must end too.
const MOST_GENERATIONS: usize = 64;

/// The peer of the SSH connection that this process runs under.
pub fn peer() -> Option<IpAddr> {
    peer_of(Path::new("/proc"), std::process::id())
}

/// Walks up from a process until the variable is found: sudo strips it, but the shell that called sudo has it still. What
/// cannot be read has none.
fn peer_of(proc: &Path, mut process: u32) -> Option<IpAddr> {
    for _ in 0..MOST_GENERATIONS {
        let directory: PathBuf = proc.join(process.to_string());
        let environment = fs::read(directory.join("environ")).unwrap_or_default();
        if let Some(peer) = peer_in(&environment) {
            return Some(peer);
        }
        process = parent(&fs::read_to_string(directory.join("stat")).ok()?)?;
        if process <= 1 {
            return None;
        }
    }
    None
}

fn peer_in(environment: &[u8]) -> Option<IpAddr> {
    let value = |name: &[u8]| environment.split(|byte| *byte == 0).find_map(|variable| variable.strip_prefix(name));
    VARIABLES.into_iter().filter_map(value).find_map(|value| parse(str::from_utf8(value).ok()?))
}

/// An address as sshd writes it, perhaps with the interface behind a percent sign, and more words behind it. `None` for
/// this machine itself.
pub fn parse(text: &str) -> Option<IpAddr> {
    let address: IpAddr = text.split([' ', '%']).next()?.parse().ok()?;
    let address = fold_address(address);
    (!address.is_loopback() && !address.is_unspecified() && !address.is_multicast()).then_some(address)
}

/// The parent in `/proc/PID/stat`. The name in it may hold blanks and parentheses of its own.
fn parent(stat: &str) -> Option<u32> {
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Processes with their parent and, where it can be read, their environment.
    fn found(processes: &[(u32, u32, Option<&str>)], from: u32) -> Option<String> {
        let proc = tempfile::tempdir().unwrap();
        for (id, parent, environment) in processes {
            let directory = proc.path().join(id.to_string());
            fs::create_dir_all(&directory).unwrap();
            fs::write(directory.join("stat"), format!("{id} (a (b) c) S {parent} 1 1 0 -1")).unwrap();
            if let Some(environment) = environment {
                fs::write(directory.join("environ"), environment).unwrap();
            }
        }
        peer_of(proc.path(), from).map(|peer| peer.to_string())
    }

    #[test]
    fn the_shell_above_sudo_still_knows_the_peer() {
        let shell = Some("HOME=/root\0SSH_CONNECTION=203.0.113.7 50000 192.0.2.1 22\0TERM=xterm\0");
        let chain = [(30, 20, Some("SUDO=1")), (20, 10, None), (10, 1, shell)];
        assert_eq!(found(&chain, 30).as_deref(), Some("203.0.113.7"));
        assert_eq!(found(&chain, 20).as_deref(), Some("203.0.113.7"));
    }

    #[test]
    fn the_nearest_connection_counts_and_the_older_variable_does_too() {
        let chain = [
            (30, 20, Some("NO_SSH_CONNECTION=198.51.100.1\0SSH_CLIENT=2001:db8::7 50000 22\0")),
            (20, 1, Some("SSH_CONNECTION=203.0.113.7 50000 192.0.2.1 22")),
        ];
        assert_eq!(found(&chain, 30).as_deref(), Some("2001:db8::7"));
    }

    #[test]
    fn the_walk_ends_at_init_and_in_a_loop() {
        let init = Some("SSH_CONNECTION=203.0.113.7 1 192.0.2.1 22");
        assert_eq!(found(&[(30, 1, None), (1, 0, init)], 30), None);
        assert_eq!(found(&[(30, 20, None), (20, 30, None)], 30), None);
        assert_eq!(found(&[(30, 20, None)], 30), None);
    }

    #[test]
    fn addresses_are_read_as_sshd_writes_them() {
        let read = |text| parse(text).map(|address| address.to_string());
        assert_eq!(read("fe80::1%eth0 50000 fe80::2%eth0 22").as_deref(), Some("fe80::1"));
        assert_eq!(read("::ffff:203.0.113.7 50000 ::ffff:192.0.2.1 22").as_deref(), Some("203.0.113.7"));
        for nobody in ["127.0.0.1 50000 127.0.0.1 22", "::1 1 ::1 22", "UNKNOWN 65535", "", "0.0.0.0", "ff02::1"] {
            assert_eq!(read(nobody), None, "{nobody}");
        }
    }

    proptest! {
        #[test]
        fn nothing_in_an_environment_or_a_stat_panics(bytes: Vec<u8>, text in ".*", address: [u8; 16]) {
            peer_in(&bytes);
            parent(&text);
            let text = IpAddr::from(address).to_string();
            prop_assert_eq!(peer_in(format!("SSH_CLIENT={text}\0").as_bytes()), parse(&text));
        }
    }
}
