//! Brings a list in: asks its sources, and reads what they hold. Slow, so it works on what a [`Job`] says and touches neither
//! the controller nor the gate.

use std::{path::PathBuf, sync::Arc, time::Duration};

use super::{
    content::{Content, Piece, Validators, mark_url},
    fetch::{FetchError, Fetched, Fetcher, Limits},
    list::Origin,
    local,
    reading::{self, Read},
    roster::{Job, JobKind, age, marks},
    shelf::{Kept, Shelf},
};
use crate::config::{List, Source};

/// What became of a job.
#[derive(Debug)]
pub enum News {
    /// The sources hold what is in force.
    Unchanged,
    /// Another copy.
    Copy(Box<Copy>),
    /// The copy in force, read again, or why it could not be.
    Reread(Result<Box<Read>, String>),
}

/// A copy as it came, and as it reads.
#[derive(Debug)]
pub struct Copy {
    pub content: Content,
    pub read: Read,
    pub origin: Origin,
}

/// Why nothing came. The text names the source and the remedy.
#[derive(Debug)]
pub struct Failure {
    pub text: String,
    /// How long a server wants to be left alone.
    pub retry_after: Option<Duration>,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, retry_after: None }
    }
}

/// How far a job is.
pub trait Progress: Fn(u64, Option<u64>) + Send + Sync {}
impl<F: Fn(u64, Option<u64>) + Send + Sync> Progress for F {}

/// Brings lists in.
#[derive(Clone, Debug)]
pub struct Carrier {
    shelf: Arc<Shelf>,
}

impl Carrier {
    pub fn new(shelf: Arc<Shelf>) -> Self {
        Self { shelf }
    }

    pub async fn bring(&self, job: Job, now_s: u64, progress: impl Progress) -> Result<News, Failure> {
        match job.kind {
            JobKind::Ask => self.ask(job, progress).await,
            JobKind::Reread => {
                let shelf = Arc::clone(&self.shelf);
                let read = aside(move || read_again(&shelf, &job, now_s)).await;
                Ok(News::Reread(read.map(Box::new).map_err(|failure| failure.text)))
            }
            JobKind::Accept => {
                let shelf = Arc::clone(&self.shelf);
                aside(move || {
                    let Kept { content, .. } = kept(shelf.candidate(&job.config.name))?;
                    read_copy(content, &job)
                })
                .await
            }
        }
    }

    async fn ask(&self, job: Job, progress: impl Progress) -> Result<News, Failure> {
        let mut pieces = Pieces::default();
        let limits = limits(&job.config);
        let fetcher = Fetcher::new(limits);
        for source in &job.config.from {
            match source {
                Source::Path(path) => pieces.add(read_local(path.clone(), limits.most_bytes).await?),
                Source::Url(url) => {
                    let mark = mark_url(url);
                    let known = job.known.iter().flat_map(|known| &known.validators).find(|known| known.of == mark);
                    let fetched = fetcher.fetch(url, known, &progress).await;
                    pieces.0.push(match fetched.map_err(failure)? {
                        Fetched::NotModified => Came::Known { mark },
                        Fetched::Body { bytes, validators } => {
                            Came::New(Piece { name: source.to_string(), bytes, validators })
                        }
                    });
                }
            }
        }
        if pieces.are_all_known() {
            return Ok(News::Unchanged);
        }
        let shelf = Arc::clone(&self.shelf);
        aside(move || {
            let content = pieces.completed(&shelf, &job)?;
            match &job.known {
                Some(known) if known.digest == content.digest() && known.from == marks(&job.config) => {
                    Ok(News::Unchanged)
                }
                Some(_) | None => read_copy(content, &job),
            }
        })
        .await
    }
}

/// What the sources gave, in their order.
#[derive(Debug, Default)]
struct Pieces(Vec<Came>);

#[derive(Debug)]
enum Came {
    New(Piece),
    /// The server has nothing new for the URL of this mark.
    Known {
        mark: String,
    },
}

impl Pieces {
    fn add(&mut self, content: Content) {
        self.0.extend(content.pieces.into_iter().map(Came::New));
    }

    fn are_all_known(&self) -> bool {
        self.0.iter().all(|came| matches!(came, Came::Known { .. }))
    }

    /// With what is on disk in the place of what is not new.
    fn completed(self, shelf: &Shelf, job: &Job) -> Result<Content, Failure> {
        let is_known = |came: &Came| matches!(came, Came::Known { .. });
        let before = match self.0.iter().any(is_known) {
            true => kept(shelf.load(&job.config.name))?.content,
            false => Content::default(),
        };
        let pieces = self.0.into_iter().map(|came| match came {
            Came::New(piece) => Some(piece),
            Came::Known { mark } => before.pieces.iter().find(|piece| piece.validators.of == mark).cloned(),
        });
        let pieces: Option<Vec<Piece>> = pieces.collect();
        let pieces =
            pieces.ok_or_else(|| "the copy on disk lacks a part that its server calls unchanged".to_owned())?;
        Ok(Content { pieces })
    }
}

/// As the configuration of a list bounds them.
fn limits(list: &List) -> Limits {
    let (usual, whole) = (Limits::default(), list.timeout.as_std());
    Limits { most_bytes: list.max_size.bytes(), connect: usual.connect.min(whole), idle: usual.idle.min(whole), whole }
}

async fn read_local(path: PathBuf, most_bytes: u64) -> Result<Content, Failure> {
    let read = move || local::read(&path, most_bytes).map_err(|error| Failure::from(error.to_string()));
    aside(read).await
}

fn read_again(shelf: &Shelf, job: &Job, now_s: u64) -> Result<Read, Failure> {
    let Kept { content, .. } = kept(shelf.load(&job.config.name))?;
    if job.known.as_ref().is_none_or(|known| known.digest != content.digest()) {
        return Err(Failure::from("the copy on disk is not the one in force".to_owned()));
    }
    let read = reading::read(&content, &job.config, age(job.fetched_s, now_s));
    read.map_err(|error| Failure::from(error.to_string()))
}

fn read_copy(content: Content, job: &Job) -> Result<News, Failure> {
    let read = reading::read(&content, &job.config, Duration::ZERO).map_err(|error| error.to_string())?;
    let validators: Vec<Validators> = content.pieces.iter().map(|piece| piece.validators.clone()).collect();
    let origin = Origin { from: marks(&job.config), digest: content.digest(), validators };
    Ok(News::Copy(Box::new(Copy { content, read, origin })))
}

fn kept(loaded: Result<Option<Kept>, super::shelf::ShelfError>) -> Result<Kept, Failure> {
    let missing = || Failure::from("the copy on disk is gone".to_owned());
    loaded.map_err(|error| Failure::from(error.to_string()))?.ok_or_else(missing)
}

fn failure(error: FetchError) -> Failure {
    Failure { retry_after: error.retry_after(), text: error.to_string() }
}

/// Away from the threads that must not wait.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(Failure::from(format!("reading the list failed: {error}"))))
}
