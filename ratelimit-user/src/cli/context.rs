use anyhow::Context as _;
use serde::Serialize;

use crate::{
    client::{Client, ClientError},
    config::Paths,
};

use super::{Global, output, paths};

/// What every command needs: where things are, and how to answer.
#[derive(Debug)]
pub(super) struct Context<'g> {
    pub global: &'g Global,
}

impl<'g> Context<'g> {
    pub fn new(global: &'g Global) -> Self {
        Self { global }
    }

    pub fn paths(&self) -> anyhow::Result<Paths> {
        paths::resolve(self.global)
    }

    pub fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::new(&self.paths()?.socket)?)
    }

    /// Writes an answer as it was asked for.
    pub fn answer<T: Serialize>(&self, answer: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
        if self.global.json { output::write_json(answer) } else { output::write(&text(answer)) }
    }

    /// Asks the controller, or the pins where none runs.
    pub fn ask_or_offline<T>(
        &self,
        ask: impl FnOnce(&Client) -> Result<T, ClientError>,
        offline: impl FnOnce(&Paths) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let paths = self.paths()?;
        match ask(&Client::new(&paths.socket)?) {
            Err(ClientError::NotRunning { stopped }) => {
                let error = ClientError::NotRunning { stopped: stopped.clone() };
                let answer = offline(&paths).with_context(|| error.to_string())?;
                output::note(&format!(
                    "no controller is running ({stopped}); the pins in {} are used instead",
                    paths.pins.display()
                ));
                Ok(answer)
            }
            other => Ok(other?),
        }
    }
}
