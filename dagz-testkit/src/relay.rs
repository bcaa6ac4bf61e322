//! A relay between a driver and its server, for a server that goes away and comes back.
//!
//! [`Relay`] listens on a port of its own on loopback and passes bytes on, so that a case can take the
//! server away from its own processes while everybody else goes on using it. What a driver meets is
//! what a stopped server leaves: connections that end, and a port at which nobody listens.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread,
};

use anyhow::{Context, Result};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream},
    runtime::Builder,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::JoinSet,
};

/// How many may wait to be accepted.
const BACKLOG: u32 = 128;

/// Where a server is.
type Place = (String, u16);

/// A port that leads to a server, as long as the case wants it.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    orders: UnboundedSender<Order>,
}

#[derive(Debug)]
struct Order {
    is_away: bool,
    done: mpsc::Sender<io::Result<()>>,
}

impl Relay {
    /// A relay to the server at `place`, which is there.
    pub(crate) fn to(place: Place) -> Result<Self> {
        let (started, port) = mpsc::channel();
        let (orders, received) = unbounded_channel();
        // On a thread of its own: what it does may be waited for on any runtime and on none.
        thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                let served = runtime.and_then(|runtime| {
                    runtime.block_on(async {
                        let socket = reserved(0)?;
                        let port = socket.local_addr()?.port();
                        let listener = socket.listen(BACKLOG)?;
                        // Whoever asked for the relay may have gone, and then nobody orders either.
                        drop(started.send(Ok(port)));
                        serve(listener, port, place, received).await;
                        Ok(())
                    })
                });
                if let Err(error) = served {
                    drop(started.send(Err(error)));
                }
            })?;
        let port = port
            .recv()
            .context("the relay ended")?
            .context("the relay cannot listen")?;
        Ok(Self { port, orders })
    }

    /// The port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Takes the server away: ends all connections, and refuses new ones.
    pub(crate) fn away(&self) -> Result<()> {
        self.order(true)
    }

    /// Brings the server back.
    pub(crate) fn back(&self) -> Result<()> {
        self.order(false)
    }

    /// Ends all connections, as a server does that is started again.
    pub(crate) fn restart(&self) -> Result<()> {
        self.away()?;
        self.back()
    }

    fn order(&self, is_away: bool) -> Result<()> {
        let (done, outcome) = mpsc::channel();
        self.orders
            .send(Order { is_away, done })
            .context("the relay ended")?;
        outcome
            .recv()
            .context("the relay ended")?
            .context("the relay cannot listen again")
    }
}

/// What stands at the port.
enum Port {
    Open(TcpListener),
    /// Bound and not listening: connections are refused, and no other process gets the port.
    Closed(TcpSocket),
}

async fn serve(listener: TcpListener, port: u16, to: Place, mut orders: UnboundedReceiver<Order>) {
    let mut at = Some(Port::Open(listener));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            order = orders.recv() => {
                let Some(Order { is_away, done }) = order else { return };
                let changed = match (at.take(), is_away) {
                    (Some(Port::Closed(socket)), false) => socket.listen(BACKLOG).map(Port::Open),
                    (Some(Port::Open(listener)), true) => {
                        drop(listener);
                        connections.shutdown().await;
                        reserved(port).map(Port::Closed)
                    }
                    (Some(unchanged), _) => Ok(unchanged),
                    (None, _) => Err(io::ErrorKind::AddrNotAvailable.into()),
                };
                // Whoever ordered it waits for this, unless the case has failed by then.
                drop(done.send(changed.map(|changed| at = Some(changed))));
            }
            Some(stream) = accepted(at.as_ref()) => {
                let to = to.clone();
                connections.spawn(async move { pass_on(stream, to).await });
            }
            // Ended by one of its ends, which is nothing to tell.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// The next connection, where there is a listener and it has one.
async fn accepted(at: Option<&Port>) -> Option<TcpStream> {
    match at {
        Some(Port::Open(listener)) => listener.accept().await.ok().map(|(stream, _)| stream),
        _ => None,
    }
}

async fn pass_on(mut near: TcpStream, to: Place) -> io::Result<()> {
    let mut far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}

/// A socket bound to `port` of loopback, also while connections of an earlier one wind down.
fn reserved(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read, Write},
        net::{TcpListener as Server, TcpStream as Client},
    };

    use super::*;

    /// Sends a byte and tells what comes back.
    fn asked(client: &mut Client) -> io::Result<u8> {
        let mut answer = [0];
        client.write_all(&[7])?;
        client.read_exact(&mut answer)?;
        Ok(answer[0])
    }

    #[test]
    fn a_server_goes_and_comes() {
        let server = Server::bind("127.0.0.1:0").expect("a port is free");
        let port = server.local_addr().expect("it is bound").port();
        thread::spawn(move || {
            for stream in server.incoming().flatten() {
                thread::spawn(move || io::copy(&mut &stream, &mut &stream));
            }
        });
        let relay = Relay::to(("127.0.0.1".to_owned(), port)).expect("it starts");
        let connect = || Client::connect(("127.0.0.1", relay.port()));
        for _ in 0..3 {
            let mut client = connect().expect("it listens");
            assert_eq!(asked(&mut client).expect("it answers"), 7);
            relay.away().expect("it goes");
            asked(&mut client).expect_err("it is still connected");
            let refused = connect().expect_err("nobody listens");
            assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
            relay.back().expect("it comes back");
            assert_eq!(
                asked(&mut connect().expect("it listens")).expect("it answers"),
                7
            );
            relay.restart().expect("it restarts");
        }
    }
}
