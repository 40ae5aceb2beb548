//! Where the controller and its pins are. A configuration that is broken elsewhere must not hide the
//! controller that still runs with the last good one, so only `[paths]` is read here, whatever the rest says.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::config::{DEFAULT_PATH, Paths};

use super::{Global, output::note};

/// As `config` reads at most; a device given by mistake must not fill the memory.
const LARGEST_FILE_BYTES: u64 = 4 << 20;

#[derive(Debug, Default, Deserialize)]
struct OnlyPaths {
    #[serde(default)]
    paths: Written,
}

#[derive(Debug, Default, Deserialize)]
struct Written {
    socket: Option<PathBuf>,
    pins: Option<PathBuf>,
    state: Option<PathBuf>,
}

/// From the flags, else from the configuration, else the built-in ones.
pub(super) fn resolve(global: &Global) -> anyhow::Result<Paths> {
    let flags = (global.socket.clone(), global.pins.clone(), global.state.clone());
    let written = match &flags {
        (Some(_), Some(_), Some(_)) => Written::default(),
        _ => written(global.config.as_deref())?,
    };
    let default = Paths::default();
    Ok(Paths {
        socket: flags.0.or(written.socket).unwrap_or(default.socket),
        pins: flags.1.or(written.pins).unwrap_or(default.pins),
        state: flags.2.or(written.state).unwrap_or(default.state),
    })
}

fn written(given: Option<&Path>) -> anyhow::Result<Written> {
    let path = given.unwrap_or(Path::new(DEFAULT_PATH));
    let unknown = || format!("cannot read [paths] in {}", path.display());
    match read(path) {
        Ok(written) => Ok(written),
        // Another controller than the one meant is worse than none.
        Err(error) if given.is_some() => Err(error).with_context(unknown),
        Err(error) if is_missing(&error) => Ok(Written::default()),
        Err(_) => {
            note(&format!("{}, so the built-in paths are used; see `ratelimit config check`", unknown()));
            Ok(Written::default())
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Written> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE_BYTES).read_to_string(&mut text)?;
    let only: OnlyPaths = toml::from_str(&text)?;
    Ok(only.paths)
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn global(config: &Path) -> Global {
        Global { config: Some(config.to_path_buf()), ..Global::default() }
    }

    #[test]
    fn flags_go_before_the_file_and_the_file_before_what_is_built_in() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        std::fs::write(&file, "mode = \"enforced\"\n[paths]\nsocket = \"/a\"\npins = \"/b\"\n").unwrap();
        let mut global = global(&file);
        global.pins = Some("/flag".into());
        // The mode is no mode, and hides nothing.
        let paths = resolve(&global).unwrap();
        assert_eq!(paths.socket, Path::new("/a"));
        assert_eq!(paths.pins, Path::new("/flag"));
        assert_eq!(paths.state, Paths::default().state);
    }

    #[test]
    fn a_file_that_was_named_must_be_readable() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("r.toml");
        assert!(resolve(&global(&file)).is_err());
        std::fs::write(&file, "[paths\n").unwrap();
        let said = format!("{:#}", resolve(&global(&file)).unwrap_err());
        assert!(said.contains("cannot read [paths] in") && said.contains("r.toml"), "{said}");
        let all = Some(PathBuf::from("/all"));
        let given = Global { socket: all.clone(), pins: all.clone(), state: all, ..global(&file) };
        assert_eq!(resolve(&given).unwrap().socket, Path::new("/all"));
    }
}
