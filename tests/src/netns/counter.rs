//! Counters of the network stack in /proc/net.

/// A line of names and, below it, one of values, both behind the name of the group.
pub(super) fn find(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter(|line| line.split(':').next() == Some(group));
    let (names, values) = (lines.next()?, lines.next()?);
    let (_, value) = names.split(' ').zip(values.split(' ')).find(|(known, _)| *known == name)?;
    value.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_found_by_name() {
        let text = "Ip: Forwarding\nIp: 1\nTcp: RtoMin ActiveOpens\nTcp: 200 7\n";
        assert_eq!(find(text, "Tcp", "ActiveOpens"), Some(7));
        assert_eq!(find(text, "Tcp", "PassiveOpens"), None);
        assert_eq!(find(text, "TcpExt", "ActiveOpens"), None);
    }
}
