use std::{io, path::PathBuf, time::Duration};

use hyper::StatusCode;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("no controller is running ({stopped}): start it with `ratelimit run` or `systemctl start ratelimit`")]
    NotRunning { stopped: Stopped },
    #[error("{} may not be opened: run it as root", .socket.display())]
    PermissionDenied { socket: PathBuf },
    #[error("{} is not the controller's: {foreign}", .socket.display())]
    Foreign { socket: PathBuf, foreign: Foreign },
    #[error("cannot connect to {}: {error}", .socket.display())]
    Connect { socket: PathBuf, error: io::Error },
    #[error("the controller did not answer within {} s{}", .after.as_secs_f64(), uncertain(*.is_change))]
    NoAnswer { after: Duration, is_change: bool },
    #[error("the connection to the controller broke off; its log (`journalctl -u ratelimit`) may say why: {0}")]
    Broken(hyper::Error),
    #[error("the answer of the controller cannot be read: {0}")]
    Unreadable(Box<dyn std::error::Error + Send + Sync>),
    #[error("the answer of the controller exceeds {} KiB; this is not what it sends", .limit >> 10)]
    TooLarge { limit: usize },
    #[error("the answer of the controller is not understood; is it of another version than this command? {0}")]
    Garbage(serde_json::Error),
    #[error("the controller answered {0} without a reason; is it of another version than this command?")]
    Status(StatusCode),
    /// In the words of the controller.
    #[error("{0}")]
    Refused(String),
    #[error("the controller ended the stream of events; it was stopped or restarted")]
    StreamEnded,
    #[error("not a request: {0}")]
    Request(hyper::http::Error),
    #[error("cannot start an event loop: {0}")]
    Runtime(io::Error),
}

/// How it shows that no controller runs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("no socket at {}", .0.display())]
    NoSocket(PathBuf),
    #[error("nobody listens at {}", .0.display())]
    NoListener(PathBuf),
}

/// Why a socket is not trusted to be the controller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    #[error("it is not a socket")]
    NotASocket,
    #[error("it belongs to user {uid}, not to root")]
    Owner { uid: u32 },
    #[error("a process of user {uid} listens there, not one of root")]
    Listener { uid: u32 },
}

fn uncertain(is_change: bool) -> &'static str {
    if is_change { "; `ratelimit status` shows whether it was done" } else { "" }
}
