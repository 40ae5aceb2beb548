use std::{
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::Path,
};

use tokio::net::UnixStream;

use super::{ClientError, Foreign, Stopped};

/// Connects to the controller, and to nobody who only sits at its place.
pub(super) async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    let file = fs::metadata(socket).map_err(|error| refused(socket, error))?;
    let own = nix::unistd::Uid::effective().as_raw();
    check(file.file_type().is_socket(), file.uid(), own)
        .map_err(|foreign| ClientError::Foreign { socket: socket.to_path_buf(), foreign })?;

    let stream = UnixStream::connect(socket).await.map_err(|error| refused(socket, error))?;
    let listener = stream.peer_cred().map_err(|error| refused(socket, error))?.uid();
    if is_ours(listener, own) {
        Ok(stream)
    } else {
        let foreign = Foreign::Listener { uid: listener };
        Err(ClientError::Foreign { socket: socket.to_path_buf(), foreign })
    }
}

pub(super) fn check(is_socket: bool, owner: u32, own: u32) -> Result<(), Foreign> {
    if !is_socket {
        return Err(Foreign::NotASocket);
    }
    if is_ours(owner, own) { Ok(()) } else { Err(Foreign::Owner { uid: owner }) }
}

fn is_ours(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

fn refused(socket: &Path, error: io::Error) -> ClientError {
    let socket = socket.to_path_buf();
    match error.kind() {
        io::ErrorKind::NotFound => ClientError::NotRunning { stopped: Stopped::NoSocket(socket) },
        io::ErrorKind::ConnectionRefused => ClientError::NotRunning { stopped: Stopped::NoListener(socket) },
        io::ErrorKind::PermissionDenied => ClientError::PermissionDenied { socket },
        _ => ClientError::Connect { socket, error },
    }
}
