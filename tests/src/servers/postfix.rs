//! Postfix as it is run in a Debian root, whatever it is there for.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::Result;

use crate::debian::{DebianRoot, POSTDROP, POSTFIX};
use crate::netns::Namespace;
use crate::process::Process;

/// Where `maillog_file` is to point.
pub(crate) const LOG: &str = "/var/log/mail.log";
/// What servers say before they have opened their logs.
pub(crate) const START_LOG: &str = "/var/log/start.log";

/// Starts it; it greets when it is ready.
pub(crate) fn start(root: &DebianRoot, namespace: &Namespace) -> Result<Process> {
    let log = root.open_log(START_LOG)?;
    let master = root.command(namespace, "/usr/lib/postfix/sbin/master").args(["-s", "-c", "/etc/postfix"]);
    master.stdout(log.try_clone()?).stderr(log).spawn()
}

/// Whether a server on the loopback says what servers say first.
pub(crate) fn greets(port: u16, greeting: &str) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_secs(1)) else {
        return false;
    };
    let mut bytes = vec![0; greeting.len()];
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .and_then(|()| stream.read_exact(&mut bytes))
        .is_ok_and(|()| bytes == greeting.as_bytes())
}

/// Writes its configuration, and makes the directories as `postfix set-permissions` would leave them; the tree itself may
/// belong to any user.
pub(crate) fn prepare(root: &DebianRoot, main_cf: &str, listeners: &str) -> Result<()> {
    root.write("/etc/postfix/main.cf", main_cf)?;
    root.write("/etc/postfix/master.cf", &format!("{listeners}{SERVICES}"))?;
    for directory in ["/etc/postfix", "/var/spool/postfix", "/var/spool/postfix/pid"] {
        root.directory(directory, 0, 0, 0o755)?;
    }
    let private =
        ["active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "saved", "trace"];
    for directory in private {
        root.directory(&format!("/var/spool/postfix/{directory}"), POSTFIX.id, 0, 0o700)?;
    }
    root.directory("/var/spool/postfix/maildrop", POSTFIX.id, POSTDROP.id, 0o730)?;
    root.directory("/var/spool/postfix/public", POSTFIX.id, POSTDROP.id, 0o710)?;
    root.directory("/var/lib/postfix", POSTFIX.id, POSTFIX.id, 0o755)?;
    Ok(())
}

/// No service is chrooted: the Debian root is one already.
const SERVICES: &str = "\
pickup      unix  n - n 60 1 pickup
cleanup     unix  n - n - 0 cleanup
qmgr        unix  n - n 300 1 qmgr
tlsmgr      unix  - - n 1000? 1 tlsmgr
rewrite     unix  - - n - - trivial-rewrite
bounce      unix  - - n - 0 bounce
defer       unix  - - n - 0 bounce
trace       unix  - - n - 0 bounce
verify      unix  - - n - 1 verify
flush       unix  n - n 1000? 0 flush
proxymap    unix  - - n - - proxymap
proxywrite  unix  - - n - 1 proxymap
smtp        unix  - - n - - smtp
relay       unix  - - n - - smtp
error       unix  - - n - - error
retry       unix  - - n - - error
discard     unix  - - n - - discard
virtual     unix  - n n - - virtual
anvil       unix  - - n - 1 anvil
scache      unix  - - n - 1 scache
postlog     unix-dgram n - n - 1 postlogd
";
