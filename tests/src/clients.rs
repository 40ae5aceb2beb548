//! Honest clients: whole conversations in plain Rust, from any address of a namespace, and the real programs swaks and curl.

use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Result;
use socket2::{Domain, Protocol, Socket, Type};

use crate::debian::DebianRoot;
use crate::netns::Namespace;
use crate::process::Finished;
use crate::servers::{PASSWORD, USER};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conversation {
    /// A TCP handshake and nothing more.
    Connect,
    /// Greeting, EHLO, MAIL, RCPT, DATA, a message taken over, QUIT.
    Smtp,
    /// Greeting, LOGIN, SELECT INBOX, LOGOUT.
    Imap,
    /// Greeting, USER, PASS, STAT, QUIT.
    Pop3,
}

/// Who speaks to whom. Sockets belong to the network namespace of the calling thread.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// One of the namespace's own addresses; without it the route decides.
    pub source: Option<IpAddr>,
    pub server: SocketAddr,
    /// For the whole conversation.
    pub timeout: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Completed {
    pub connect: Duration,
    pub total: Duration,
}

#[derive(Debug, thiserror::Error)]
#[error("{stage} after {elapsed:.1?}: {cause}")]
pub struct Failure {
    pub stage: Stage,
    pub elapsed: Duration,
    pub cause: Cause,
}

#[derive(Debug, thiserror::Error)]
pub enum Cause {
    #[error(transparent)]
    Network(#[from] io::Error),
    #[error("the server said {0:?}")]
    Refused(String),
}

/// How far a conversation came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Connect,
    Greeting,
    Login,
    Mailbox,
    Envelope,
    Message,
    Quit,
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Stage::Connect => "connect",
            Stage::Greeting => "greeting",
            Stage::Login => "login",
            Stage::Mailbox => "mailbox",
            Stage::Envelope => "envelope",
            Stage::Message => "message",
            Stage::Quit => "quit",
        })
    }
}

impl Client {
    pub fn converse(&self, conversation: Conversation) -> Result<Completed, Failure> {
        let start = Instant::now();
        let mut stage = Stage::Connect;
        self.attempt(conversation, start, &mut stage).map_err(|cause| failure(stage, start, cause))
    }

    /// Delivers a message over SMTP, and does something in the middle of it, while the server waits for the rest.
    pub fn deliver(&self, amid: impl FnOnce()) -> Result<Completed, Failure> {
        let start = Instant::now();
        let mut stage = Stage::Connect;
        self.attempt_delivery(start, &mut stage, amid).map_err(|cause| failure(stage, start, cause))
    }

    fn attempt_delivery(&self, start: Instant, stage: &mut Stage, amid: impl FnOnce()) -> Result<Completed, Cause> {
        let stream = self.connect()?;
        let connect = start.elapsed();
        let mut dialogue = Dialogue { reader: BufReader::new(stream), deadline: start + self.timeout, stage };
        envelope(&mut dialogue)?;
        dialogue.say(&message("The first half."))?;
        amid();
        // Many packets, so that it is not one alone that gets through.
        (0..REST_LINES).try_for_each(|number| dialogue.say(&format!("Line {number} of the second half.")))?;
        dialogue.smtp(".", "250")?;
        quit(&mut dialogue)?;
        Ok(Completed { connect, total: start.elapsed() })
    }

    fn attempt(&self, conversation: Conversation, start: Instant, stage: &mut Stage) -> Result<Completed, Cause> {
        let stream = self.connect()?;
        let connect = start.elapsed();
        let mut dialogue = Dialogue { reader: BufReader::new(stream), deadline: start + self.timeout, stage };
        match conversation {
            Conversation::Connect => {}
            Conversation::Smtp => smtp(&mut dialogue)?,
            Conversation::Imap => imap(&mut dialogue)?,
            Conversation::Pop3 => pop3(&mut dialogue)?,
        }
        Ok(Completed { connect, total: start.elapsed() })
    }

    pub(crate) fn connect(&self) -> io::Result<TcpStream> {
        let socket = Socket::new(Domain::for_address(self.server), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = self.source {
            socket.bind(&SocketAddr::new(source, 0).into())?;
        }
        socket.connect_timeout(&self.server.into(), self.timeout)?;
        socket.set_tcp_nodelay(true)?;
        Ok(socket.into())
    }
}

/// Lines of a message after its pause.
const REST_LINES: usize = 500;

fn failure(stage: Stage, start: Instant, cause: Cause) -> Failure {
    Failure { stage, elapsed: start.elapsed(), cause }
}

fn smtp(dialogue: &mut Dialogue) -> Result<(), Cause> {
    envelope(dialogue)?;
    dialogue.smtp(&format!("{}\r\n.", message("Hello.")), "250")?;
    quit(dialogue)
}

/// Everything up to the message.
fn envelope(dialogue: &mut Dialogue) -> Result<(), Cause> {
    dialogue.enter(Stage::Greeting);
    dialogue.smtp_reply("220")?;
    dialogue.smtp("EHLO client.example.test", "250")?;
    dialogue.enter(Stage::Envelope);
    dialogue.smtp("MAIL FROM:<sender@client.example.test>", "250")?;
    dialogue.smtp(&format!("RCPT TO:<{USER}>"), "250")?;
    dialogue.enter(Stage::Message);
    dialogue.smtp("DATA", "354")
}

/// Its header and first line, without the end of that.
fn message(line: &str) -> String {
    format!("From: sender@client.example.test\r\nTo: {USER}\r\nSubject: lab\r\n\r\n{line}")
}

fn quit(dialogue: &mut Dialogue) -> Result<(), Cause> {
    dialogue.enter(Stage::Quit);
    dialogue.smtp("QUIT", "221")
}

fn imap(dialogue: &mut Dialogue) -> Result<(), Cause> {
    dialogue.enter(Stage::Greeting);
    dialogue.expect_line("* OK")?;
    dialogue.enter(Stage::Login);
    dialogue.imap("a", &format!("LOGIN {USER} {PASSWORD}"))?;
    dialogue.enter(Stage::Mailbox);
    dialogue.imap("b", "SELECT INBOX")?;
    dialogue.enter(Stage::Quit);
    dialogue.imap("c", "LOGOUT")
}

fn pop3(dialogue: &mut Dialogue) -> Result<(), Cause> {
    dialogue.enter(Stage::Greeting);
    dialogue.expect_line("+OK")?;
    dialogue.enter(Stage::Login);
    dialogue.pop3(&format!("USER {USER}"))?;
    dialogue.pop3(&format!("PASS {PASSWORD}"))?;
    dialogue.enter(Stage::Mailbox);
    dialogue.pop3("STAT")?;
    dialogue.enter(Stage::Quit);
    dialogue.pop3("QUIT")
}

struct Dialogue<'a> {
    reader: BufReader<TcpStream>,
    deadline: Instant,
    stage: &'a mut Stage,
}

impl Dialogue<'_> {
    fn enter(&mut self, stage: Stage) {
        *self.stage = stage;
    }

    fn smtp(&mut self, command: &str, code: &str) -> Result<(), Cause> {
        self.say(command)?;
        self.smtp_reply(code)
    }

    /// A reply may have many lines, all but the last with a dash after the code.
    fn smtp_reply(&mut self, code: &str) -> Result<(), Cause> {
        loop {
            let line = self.expect_line(code)?;
            if line.as_bytes().get(code.len()) != Some(&b'-') {
                return Ok(());
            }
        }
    }

    fn imap(&mut self, tag: &str, command: &str) -> Result<(), Cause> {
        self.say(&format!("{tag} {command}"))?;
        loop {
            let line = self.hear()?;
            if line.starts_with("* ") {
                continue;
            }
            if line.starts_with(&format!("{tag} OK")) {
                return Ok(());
            }
            return Err(Cause::Refused(line));
        }
    }

    fn pop3(&mut self, command: &str) -> Result<(), Cause> {
        self.say(command)?;
        self.expect_line("+OK")?;
        Ok(())
    }

    fn expect_line(&mut self, prefix: &str) -> Result<String, Cause> {
        let line = self.hear()?;
        if line.starts_with(prefix) { Ok(line) } else { Err(Cause::Refused(line)) }
    }

    fn say(&mut self, line: &str) -> Result<(), Cause> {
        let remaining = self.remaining()?;
        let stream = self.reader.get_mut();
        stream.set_write_timeout(Some(remaining))?;
        stream.write_all(format!("{line}\r\n").as_bytes())?;
        Ok(())
    }

    fn hear(&mut self) -> Result<String, Cause> {
        let remaining = self.remaining()?;
        self.reader.get_ref().set_read_timeout(Some(remaining))?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn remaining(&self) -> io::Result<Duration> {
        self.deadline
            .checked_duration_since(Instant::now())
            .filter(|remaining| !remaining.is_zero())
            .ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

/// A message sent by swaks, with STARTTLS where asked for.
pub fn swaks(root: &DebianRoot, namespace: &Namespace, client: Client, tls: bool) -> Result<Finished> {
    let mut task = root
        .command(namespace, "swaks")
        .args(["--server", &client.server.ip().to_string()])
        .args(["--port", &client.server.port().to_string()])
        .args(["--timeout", &client.timeout.as_secs().max(1).to_string()])
        .args(["--helo", "client.example.test"])
        .args(["--from", "sender@client.example.test", "--to", USER]);
    if let Some(source) = client.source {
        task = task.args(["--local-interface", &source.to_string()]);
    }
    if tls {
        task = task.arg("--tls");
    }
    task.output(client.timeout + GRACE)
}

/// The mailbox read by curl over `imap`, `imaps`, `pop3` or `pop3s`: the status of INBOX, or the list of messages.
pub fn curl(root: &DebianRoot, namespace: &Namespace, client: Client, scheme: &str) -> Result<Finished> {
    let path = if scheme.starts_with("imap") { "INBOX" } else { "" };
    let mut task = root
        .command(namespace, "curl")
        .args(["--silent", "--show-error", "--insecure"])
        .args(["--max-time", &client.timeout.as_secs().max(1).to_string()])
        .args(["--user", &format!("{USER}:{PASSWORD}")])
        .arg(format!("{scheme}://{}/{path}", client.server));
    if let Some(source) = client.source {
        task = task.args(["--interface", &source.to_string()]);
    }
    if scheme.starts_with("imap") {
        task = task.args(["--request", "EXAMINE INBOX"]);
    }
    task.output(client.timeout + GRACE)
}

/// The programs have the time-out themselves and say more about it than a kill would.
const GRACE: Duration = Duration::from_secs(5);
