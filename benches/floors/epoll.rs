//! Owns the lowest floor: one thread on one epoll. What is read is written back from where it lies.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use bastide_benches::floor::{announce, each_frame};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

const READ_BYTES: usize = 64 * 1024;
const LISTENER: Token = Token(usize::MAX);

struct Client {
    socket: TcpStream,
    /// The begin of a frame.
    unread: Vec<u8>,
    /// What the socket did not take.
    out: Vec<u8>,
}

pub(crate) fn main() -> ExitCode {
    // Ends when the process is killed.
    serve().map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS)
}

fn serve() -> io::Result<()> {
    let (mut poll, mut events) = (Poll::new()?, Events::with_capacity(1024));
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    announce(listener.local_addr()?);
    let (mut clients, mut scratch) = (Vec::<Option<Client>>::new(), vec![0; READ_BYTES]);
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    socket.set_nodelay(true)?;
                    let both = Interest::READABLE | Interest::WRITABLE;
                    poll.registry().register(&mut socket, Token(clients.len()), both)?;
                    let (unread, out) = (Vec::new(), Vec::new());
                    clients.push(Some(Client { socket, unread, out }));
                }
                continue;
            }
            let place = &mut clients[event.token().0];
            if let Some(client) = place
                && !client.wake(&mut scratch).unwrap_or(false)
            {
                *place = None;
            }
        }
    }
}

impl Client {
    /// Writes what is left, then reads until there is nothing; whether it is still there.
    fn wake(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        let left = std::mem::take(&mut self.out);
        self.write(&left)?;
        loop {
            let read = match self.socket.read(scratch) {
                Ok(0) => return Ok(false),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(e) => return Err(e),
            };
            if self.unread.is_empty() {
                let used = each_frame(&scratch[..read], |_| {});
                self.unread.extend_from_slice(&scratch[used..read]);
                self.write(&scratch[..used])?;
            } else {
                self.unread.extend_from_slice(&scratch[..read]);
                let rest = self.unread.split_off(each_frame(&self.unread, |_| {}));
                let whole = std::mem::replace(&mut self.unread, rest);
                self.write(&whole)?;
            }
            if read < scratch.len() {
                // Less than there is room for: the socket is empty, and tells when it is not.
                return Ok(true);
            }
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.out.is_empty() || bytes.is_empty() {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let written = match self.socket.write(bytes) {
            Ok(written) => written,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
            Err(e) => return Err(e),
        };
        self.out.extend_from_slice(&bytes[written..]);
        Ok(())
    }
}
