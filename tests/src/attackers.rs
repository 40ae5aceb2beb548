//! Real attack tools, bounded in count and time, inside a namespace of the test's own.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::debian::DebianRoot;
use crate::netns::Namespace;
use crate::process::Finished;

/// Scans end long before; hping3's own time is added to it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// SYNs by hping3, which speaks IPv4 only.
#[derive(Debug, Clone, Copy)]
pub struct Hping {
    pub target: Ipv4Addr,
    pub port: u16,
    pub count: u32,
    pub interval: Duration,
    pub source: HpingSource,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HpingSource {
    /// The namespace's own address.
    Own,
    Forged(Ipv4Addr),
    /// Another forged one for each packet.
    Random,
}

impl Hping {
    /// Runs until all packets are sent. hping3 itself fails when nothing answers, so the exit says little.
    pub fn run(self, root: &DebianRoot, namespace: &Namespace) -> Result<Finished> {
        let interval_us = self.interval.as_micros();
        let mut task = root
            .command(namespace, "hping3")
            .args(["--syn", "--numeric", "--quiet"])
            .args(["--destport", &self.port.to_string()])
            .args(["--count", &self.count.to_string()])
            .args(["--interval", &format!("u{interval_us}")]);
        task = match self.source {
            HpingSource::Own => task,
            HpingSource::Forged(source) => task.args(["--spoof", &source.to_string()]),
            HpingSource::Random => task.arg("--rand-source"),
        };
        task.arg(self.target.to_string()).output(TIMEOUT + self.interval * self.count)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    Syn,
    /// SYNs cut into fragments of 8 bytes.
    SynFragments,
    /// No flag at all.
    Null,
    Fin,
    /// FIN, PSH and URG.
    Xmas,
    Ack,
    /// Whole handshakes.
    Connect,
}

#[derive(Debug)]
pub struct ScanReport {
    /// nmap's words: `open`, `closed`, `filtered`, `unfiltered`, `open|filtered`.
    pub states: BTreeMap<u16, String>,
    pub output: Finished,
}

/// Scans the given ports with nmap, without looking names up or asking first whether the host is there.
pub fn nmap(root: &DebianRoot, namespace: &Namespace, scan: Scan, target: IpAddr, ports: &[u16]) -> Result<ScanReport> {
    let flags: &[&str] = match scan {
        Scan::Syn => &["-sS"],
        Scan::SynFragments => &["-sS", "-f"],
        Scan::Null => &["-sN"],
        Scan::Fin => &["-sF"],
        Scan::Xmas => &["-sX"],
        Scan::Ack => &["-sA"],
        Scan::Connect => &["-sT"],
    };
    let list: Vec<String> = ports.iter().map(u16::to_string).collect();
    let mut task = root
        .command(namespace, "nmap")
        .args(["-Pn", "-n", "--max-retries", "1", "-oG", "-"])
        .args(flags)
        .args(["-p", &list.join(",")]);
    if target.is_ipv6() {
        task = task.arg("-6");
    }
    let output = task.arg(target.to_string()).output(TIMEOUT)?;
    ensure!(output.status.success(), "nmap failed ({}): {}{}", output.status, output.stdout, output.stderr);
    let states =
        port_states(&output.stdout).with_context(|| format!("cannot read nmap's report:\n{}", output.stdout))?;
    Ok(ScanReport { states, output })
}

/// `Host: 192.0.2.1 ()<TAB>Ports: 25/open/tcp//smtp///, 26/closed/tcp//rsftp///<TAB>Ignored State: …`
fn port_states(report: &str) -> Option<BTreeMap<u16, String>> {
    let line = report.lines().find(|line| line.contains("Ports: "))?;
    let (_, ports) = line.split_once("Ports: ")?;
    let ports = ports.split('\t').next()?;
    ports
        .split(", ")
        .map(|port| {
            let mut fields = port.split('/');
            let number = fields.next()?.trim().parse().ok()?;
            Some((number, fields.next()?.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::port_states;

    #[test]
    fn nmap_report_is_read() {
        let report = "# Nmap 7.93 scan initiated\nHost: 192.0.2.1 ()\tStatus: Up\nHost: 192.0.2.1 ()\tPorts: \
                      25/open/tcp//smtp///, 26/open|filtered/tcp//rsftp///\tIgnored State: closed (3)\n";
        let states = port_states(report).expect("a report with ports");
        assert_eq!(states[&25], "open");
        assert_eq!(states[&26], "open|filtered");
        assert_eq!(states.len(), 2);
        assert!(port_states("# Nmap done: 0 hosts up\n").is_none());
    }
}
