//! A real mail server: Postfix delivers to the mailbox that Dovecot serves.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::debian::{DOVECOT, DebianRoot, POSTFIX, VMAIL};
use crate::netns::Namespace;
use crate::process::Process;

pub(crate) mod postfix;

use postfix::START_LOG;

/// The one mailbox.
pub const USER: &str = "user@example.test";
pub const PASSWORD: &str = "secret";

const DOVECOT_LOG: &str = "/var/log/dovecot.log";
const CERTIFICATE: &str = "/etc/tls/cert.pem";
const KEY: &str = "/etc/tls/key.pem";
const AUTH_SOCKET: &str = "/var/spool/postfix/private/auth";
const INBOX: &str = "/var/vmail/user/Maildir";

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(3);

/// What a test adds to the configurations; later lines win over the built-in ones.
#[derive(Debug, Clone, Default)]
pub struct Extra {
    /// Lines of main.cf.
    pub postfix: Vec<String>,
    /// Lines of dovecot.conf.
    pub dovecot: Vec<String>,
}

/// Postfix on 25, 465 and 587, Dovecot on 143, 993, 110 and 995, on every address of a namespace.
#[derive(Debug)]
pub struct MailServer {
    // Dropped in this order: the servers before what they run in.
    postfix: Process,
    dovecot: Process,
    root: DebianRoot,
}

impl MailServer {
    /// Starts both with an empty mailbox and returns when both greet.
    pub fn start(namespace: &Namespace, extra: &Extra) -> Result<Self> {
        let root = DebianRoot::new()?;
        prepare(&root, namespace, extra)?;
        let log = root.open_log(START_LOG)?;
        let dovecot = root.command(namespace, "dovecot").arg("-F").stdout(log.try_clone()?).stderr(log).spawn()?;
        let postfix = postfix::start(&root, namespace)?;
        let mut server = Self { postfix, dovecot, root };
        server.wait_until_ready(namespace)?;
        Ok(server)
    }

    pub fn root(&self) -> &DebianRoot {
        &self.root
    }

    pub fn postfix_log(&self) -> Result<String> {
        self.root.read(postfix::LOG)
    }

    pub fn dovecot_log(&self) -> Result<String> {
        self.root.read(DOVECOT_LOG)
    }

    /// How many messages have been delivered to the mailbox.
    pub fn delivered(&self) -> Result<usize> {
        let new = self.root.list(&format!("{INBOX}/new"))?.len();
        let seen = self.root.list(&format!("{INBOX}/cur"))?.len();
        Ok(new + seen)
    }

    /// Waits until at least `count` messages are in the mailbox.
    pub fn wait_delivered(&self, count: usize, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            let delivered = self.delivered()?;
            if delivered >= count {
                return Ok(());
            }
            if Instant::now() >= deadline {
                bail!("{delivered} of {count} messages delivered after {timeout:?}; {}", self.logs());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends both servers in an orderly way. Dropping the server ends them at once.
    pub fn stop(self) -> Result<()> {
        self.postfix.terminate(STOP_TIMEOUT)?;
        self.dovecot.terminate(STOP_TIMEOUT)?;
        Ok(())
    }

    fn wait_until_ready(&mut self, namespace: &Namespace) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        for (port, greeting) in [(25, "220 "), (143, "* OK"), (110, "+OK")] {
            while !namespace.enter(|| postfix::greets(port, greeting))? {
                if !self.postfix.is_running()? {
                    bail!("Postfix ended while starting; {}", self.logs());
                }
                if !self.dovecot.is_running()? {
                    bail!("Dovecot ended while starting; {}", self.logs());
                }
                if Instant::now() >= deadline {
                    bail!("no greeting on port {port} after {START_TIMEOUT:?}; {}", self.logs());
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(())
    }

    fn logs(&self) -> String {
        [START_LOG, postfix::LOG, DOVECOT_LOG]
            .map(|log| {
                let text = self.root.read(log).unwrap_or_else(|error| format!("{error:#}"));
                format!("{log}:\n{text}")
            })
            .join("\n")
    }
}

fn prepare(root: &DebianRoot, namespace: &Namespace, extra: &Extra) -> Result<()> {
    root.write("/etc/dovecot/users", &format!("{USER}:{{PLAIN}}{PASSWORD}\n"))?;
    root.write("/etc/dovecot/dovecot.conf", &dovecot_conf(root, namespace, extra)?)?;
    postfix::prepare(root, &main_cf(extra), LISTENERS)?;
    root.directory(VMAIL_HOME, VMAIL.id, VMAIL.id, 0o755)?;
    root.directory("/etc/tls", 0, 0, 0o755)?;
    root.command(namespace, "openssl")
        .args(["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
        .args(["-days", "3650", "-subj", "/CN=mail.example.test"])
        .args(["-addext", "subjectAltName=DNS:mail.example.test"])
        .args(["-keyout", KEY, "-out", CERTIFICATE])
        .check(START_TIMEOUT)
        .context("cannot make the server's certificate")?;
    Ok(())
}

const VMAIL_HOME: &str = "/var/vmail";

fn main_cf(extra: &Extra) -> String {
    let mut text = format!(
        "\
compatibility_level = 3.6
myhostname = mail.example.test
mydestination =
alias_maps =
alias_database =
mynetworks = 127.0.0.0/8
inet_interfaces = all
inet_protocols = all
maillog_file = {log}
virtual_mailbox_domains = example.test
virtual_mailbox_base = {VMAIL_HOME}
virtual_mailbox_maps = inline:{{ {USER}=user/Maildir/ }}
virtual_uid_maps = static:{id}
virtual_gid_maps = static:{id}
smtpd_tls_security_level = may
smtpd_tls_cert_file = {CERTIFICATE}
smtpd_tls_key_file = {KEY}
smtpd_sasl_type = dovecot
smtpd_sasl_path = private/auth
smtpd_relay_restrictions = permit_mynetworks, permit_sasl_authenticated, reject_unauth_destination
# The gate is what is tested: the server itself must refuse nobody and wait for nothing.
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 300
in_flow_delay = 0
",
        id = VMAIL.id,
        log = postfix::LOG
    );
    append(&mut text, &extra.postfix);
    text
}

const LISTENERS: &str = "\
smtp        inet  n - n - - smtpd
submission  inet  n - n - - smtpd -o syslog_name=postfix/submission -o smtpd_sasl_auth_enable=yes
submissions inet  n - n - - smtpd -o syslog_name=postfix/submissions -o smtpd_sasl_auth_enable=yes
  -o smtpd_tls_wrappermode=yes
";

/// The two configuration languages in use: Debian 12 has Dovecot 2.3, Debian 13 has 2.4.
fn dovecot_conf(root: &DebianRoot, namespace: &Namespace, extra: &Extra) -> Result<String> {
    let version = root.command(namespace, "dovecot").arg("--version").check(START_TIMEOUT)?;
    let mut text = if version.starts_with("2.3.") {
        dovecot_2_3() + &dovecot_services("service_count = 0", "service_count = 1000")
    } else {
        dovecot_2_4() + &dovecot_services("restart_request_count = unlimited", "restart_request_count = 1000")
    };
    append(&mut text, &extra.dovecot);
    Ok(text)
}

fn dovecot_2_3() -> String {
    format!(
        "\
ssl_cert = <{CERTIFICATE}
ssl_key = <{KEY}
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
passdb {{
  driver = passwd-file
  args = /etc/dovecot/users
}}
userdb {{
  driver = static
  args = uid={id} gid={id} home={VMAIL_HOME}/%n
}}
",
        id = VMAIL.id
    )
}

fn dovecot_2_4() -> String {
    format!(
        "\
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
ssl_server_cert_file = {CERTIFICATE}
ssl_server_key_file = {KEY}
auth_allow_cleartext = yes
mail_driver = maildir
mail_path = ~/Maildir
passdb passwd-file {{
  passwd_file_path = /etc/dovecot/users
}}
userdb static {{
  fields {{
    uid = {id}
    gid = {id}
    home = {VMAIL_HOME}/%{{user | username}}
  }}
}}
",
        id = VMAIL.id
    )
}

/// One login process for all, and mail processes that serve many sessions, one after the other: a household that comes back
/// all at once meets a server that keeps up.
fn dovecot_services(for_ever: &str, for_many: &str) -> String {
    let mut text = format!(
        "\
protocols = imap pop3
listen = *, ::
ssl = yes
log_path = {DOVECOT_LOG}
mail_max_userip_connections = 0
default_internal_user = {internal}
default_login_user = dovenull
default_client_limit = 20000
service auth {{
  unix_listener {AUTH_SOCKET} {{
    mode = 0660
    user = {postfix}
    group = {postfix}
  }}
}}
",
        internal = DOVECOT.name,
        postfix = POSTFIX.name
    );
    for protocol in ["imap", "pop3"] {
        text.push_str(&format!(
            "\
service {protocol}-login {{
  {for_ever}
  client_limit = 10000
  process_min_avail = 1
}}
service {protocol} {{
  {for_many}
  process_limit = 4096
}}
"
        ));
    }
    text
}

fn append(text: &mut String, lines: &[String]) {
    for line in lines {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{line}");
    }
}
