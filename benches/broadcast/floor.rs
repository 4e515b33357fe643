//! Owns the floor: the least that a server can do to tell everybody the same. It keeps sockets,
//! and writes what the first of them says to each of them, one after the other.

use std::{env, fs, io, process::ExitCode};

use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    runtime::Builder,
};

pub(crate) fn main() -> ExitCode {
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    // Ends when the speaker hangs up, or the process is killed.
    runtime.block_on(serve()).map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

async fn serve() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let announced = serde_json::json!({ "gate_tcp": listener.local_addr()?.to_string() });
    fs::write(env::args().nth(1).expect("the announce file"), announced.to_string())?;
    let (mut speaker, mut hearers) = (listener.accept().await?.0, Vec::<TcpStream>::new());
    speaker.set_nodelay(true)?;
    let mut unread = Vec::with_capacity(64 * 1024);
    loop {
        tokio::select! {
            hearer = listener.accept() => {
                let hearer = hearer?.0;
                hearer.set_nodelay(true)?;
                hearers.push(hearer);
            }
            read = speaker.read_buf(&mut unread) => {
                if read? == 0 {
                    return Ok(());
                }
                let used = whole(&unread);
                write_all(&speaker, &unread[..used]).await?;
                for hearer in &hearers {
                    write_all(hearer, &unread[..used]).await?;
                }
                unread.drain(..used);
            }
        }
    }
}

async fn write_all(socket: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match socket.try_write(bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await?,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Bytes of the whole frames.
fn whole(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(size) = bytes.get(at..at + 2) {
        let end = at + 2 + usize::from(u16::from_le_bytes([size[0], size[1]]));
        if end > bytes.len() {
            break;
        }
        at = end;
    }
    at
}
