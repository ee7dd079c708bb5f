use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::time::timeout;

use super::agent::{PATIENCE, served, usual};
use crate::api::{ApiSocket, Client, ClientError, SocketError};

fn place() -> (TempDir, PathBuf) {
    let directory = TempDir::new().unwrap();
    let socket = directory.path().join("meshlb.sock");
    (directory, socket)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    let (directory, _) = place();
    let socket = directory.path().join("a/b/meshlb.sock");
    let _bound = ApiSocket::bind(&socket).unwrap();
    assert!(fs::metadata(&socket).unwrap().file_type().is_socket());
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o660, 0o755));
}

#[tokio::test]
async fn a_dead_agents_socket_is_replaced() {
    let (_directory, socket) = place();
    drop(UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let _bound = ApiSocket::bind(&socket).unwrap();
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
}

#[tokio::test]
async fn a_second_agent_is_refused() {
    let served = served(usual);
    let error = ApiSocket::bind(&served.socket).unwrap_err();
    assert!(matches!(error, SocketError::AnotherAgent { .. }), "{error:?}");
    served.client().status().await.unwrap();
}

#[tokio::test]
async fn a_living_listener_without_a_lock_is_left_alone() {
    let (_directory, socket) = place();
    let _other = UnixListener::bind(&socket).unwrap();
    let error = ApiSocket::bind(&socket).unwrap_err();
    assert!(error.to_string().starts_with("another agent is running"), "{error}");
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_socket_is_left_alone() {
    let (_directory, socket) = place();
    fs::write(&socket, "precious").unwrap();
    let error = ApiSocket::bind(&socket).unwrap_err();
    assert!(matches!(error, SocketError::NotASocket { .. }), "{error:?}");
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
}

#[tokio::test]
async fn a_stopped_server_leaves_its_place_to_the_next() {
    let served = served(usual);
    served.shutdown.cancel();
    timeout(PATIENCE, served.server).await.unwrap().unwrap().unwrap();
    assert!(!served.socket.exists());
    ApiSocket::bind(&served.socket).unwrap();
}

#[tokio::test]
async fn a_client_tells_a_missing_socket_from_a_dead_one() {
    let (_directory, socket) = place();
    let client = Client::new(&socket).unwrap();
    let missing = client.status().await.unwrap_err();
    assert!(matches!(missing, ClientError::NoSocket { .. }), "{missing:?}");
    drop(UnixListener::bind(&socket).unwrap());
    let dead = client.status().await.unwrap_err();
    assert!(matches!(dead, ClientError::Refused { .. }), "{dead:?}");
    assert!(dead.advice().unwrap().contains("meshlb run --config"));
}

#[tokio::test]
async fn an_answer_of_another_kind_is_not_understood() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (_directory, socket) = place();
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    let other = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.read_u8().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi").await.unwrap();
        stream
    });
    let error = Client::new(&socket).unwrap().status().await.unwrap_err();
    assert!(matches!(error, ClientError::NotUnderstood { status: 200, .. }), "{error:?}");
    other.await.unwrap();
}
