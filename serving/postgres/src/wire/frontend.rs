//! What clients send (PostgreSQL documentation, "Message Formats"). Every length and count is checked before it is believed.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::Error;

/// Largest start-up packet or password, as PostgreSQL has it.
const MAX_STARTUP_BYTES: usize = 10_000;
/// Largest message of an authenticated client: statements and parameters.
pub(crate) const MAX_MESSAGE_BYTES: usize = 4 << 20;

const CANCEL: i32 = 80_877_102;
const SSL: i32 = 80_877_103;
const GSS: i32 = 80_877_104;

/// The first packet of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Startup {
    Tls,
    GssEncryption,
    Cancel {
        process: i32,
        secret: Bytes,
    },
    Session {
        major: u16,
        minor: u16,
        parameters: Vec<(String, String)>,
    },
}

/// What a message of the extended protocol is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Statement,
    Portal,
}

/// A message of a client that is authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Message {
    Query(String),
    Parse {
        name: String,
        sql: String,
        types: Vec<u32>,
    },
    Bind {
        portal: String,
        statement: String,
        /// Of parameters: none means text, one is for all.
        formats: Vec<i16>,
        values: Vec<Option<Bytes>>,
        /// Of result columns, likewise.
        results: Vec<i16>,
    },
    Describe(Target, String),
    Execute {
        portal: String,
        /// Rows to send at most; 0 means all.
        limit: usize,
    },
    Close(Target, String),
    Flush,
    Sync,
    Terminate,
    /// Data of a COPY that was never begun: ignored, as the protocol says.
    Copy,
    FunctionCall,
}

/// Reads the first packet, or the one after an answer to a request for encryption; `None` at the end of the stream.
///
/// # Errors
/// `Protocol` for anything else.
pub(crate) async fn read_startup(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<Startup>, Error> {
    let mut head = [0; 4];
    if !fill(socket, &mut head).await? {
        return Ok(None);
    }
    let length = usize::try_from(i32::from_be_bytes(head)).unwrap_or(0);
    if !(8..=MAX_STARTUP_BYTES).contains(&length) {
        return Err(Error::Protocol("invalid length of startup packet"));
    }
    let mut body = vec![0; length - 4];
    if !fill(socket, &mut body).await? {
        return Ok(None);
    }
    parse_startup(Body(Bytes::from(body))).map(Some)
}

fn parse_startup(mut body: Body) -> Result<Startup, Error> {
    let code = body.i32()?;
    match code {
        SSL => return body.end(Startup::Tls),
        GSS => return body.end(Startup::GssEncryption),
        CANCEL => {
            let process = body.i32()?;
            let secret = body.0.clone();
            if !(4..=256).contains(&secret.len()) {
                return Err(Error::Protocol("invalid cancel request"));
            }
            return Ok(Startup::Cancel { process, secret });
        }
        _ => {}
    }
    let (major, minor) = ((code as u32 >> 16) as u16, code as u16);
    let mut parameters = Vec::new();
    // A version that nobody knows may be followed by anything.
    if major == 3 {
        loop {
            let name = body.text()?;
            if name.is_empty() {
                break;
            }
            parameters.push((name, body.text()?));
        }
        if !body.0.is_empty() {
            return Err(Error::Protocol("invalid startup packet layout"));
        }
    }
    Ok(Startup::Session {
        major,
        minor,
        parameters,
    })
}

/// Reads an answer to a request for authentication; `None` at the end of the stream.
///
/// # Errors
/// `Protocol` for anything else.
pub(crate) async fn read_password(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<Bytes>, Error> {
    let mut head = [0; 5];
    if !fill(socket, &mut head).await? {
        return Ok(None);
    }
    let length = body_length(&head, MAX_STARTUP_BYTES)?;
    if head[0] != b'p' {
        return Err(Error::Protocol("expected a password message"));
    }
    let mut body = vec![0; length];
    Ok(fill(socket, &mut body).await?.then(|| Bytes::from(body)))
}

/// The body's length, from a message's type and length.
fn body_length(head: &[u8; 5], limit: usize) -> Result<usize, Error> {
    let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).unwrap_or(0);
    if length < 4 || length > limit {
        return Err(Error::Protocol("invalid message length"));
    }
    Ok(length - 4)
}

/// Fills `buffer`; false when the stream ends instead.
async fn fill(socket: &mut (impl AsyncRead + Unpin), buffer: &mut [u8]) -> Result<bool, Error> {
    match socket.read_exact(buffer).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(Error::Io {
            what: "cannot read from the client",
            source,
        }),
    }
}

/// Reads messages of an authenticated client.
pub(crate) struct MessageReader<S> {
    socket: S,
    buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> MessageReader<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self {
            socket,
            buffer: BytesMut::with_capacity(8 << 10),
        }
    }

    /// The next message; `None` at the end of the stream. Cancelling loses nothing.
    ///
    /// # Errors
    /// `Protocol` for anything that is no message: there is no telling where the next one would begin.
    pub(crate) async fn next(&mut self) -> Result<Option<Message>, Error> {
        loop {
            if let Some(message) = take(&mut self.buffer)? {
                return Ok(Some(message));
            }
            let read = self
                .socket
                .read_buf(&mut self.buffer)
                .await
                .map_err(Error::io("cannot read from the client"))?;
            if read == 0 {
                return Ok(None);
            }
        }
    }
}

/// Takes one message off the buffer, if it is there in full.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Message>, Error> {
    let Some(head) = buffer.first_chunk::<5>() else {
        return Ok(None);
    };
    let tag = head[0];
    if !b"QPBDECHSXdcfF".contains(&tag) {
        return Err(Error::Protocol("invalid frontend message type"));
    }
    let length = body_length(head, MAX_MESSAGE_BYTES)?;
    if buffer.len() < 5 + length {
        buffer.reserve(5 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(5);
    let body = Body(buffer.split_to(length).freeze());
    parse(tag, body).map(Some)
}

fn parse(tag: u8, mut body: Body) -> Result<Message, Error> {
    let message = match tag {
        b'Q' => Message::Query(body.text()?),
        b'P' => Message::Parse {
            name: body.text()?,
            sql: body.text()?,
            types: body.list(4, |body| Ok(body.i32()? as u32))?,
        },
        b'B' => Message::Bind {
            portal: body.text()?,
            statement: body.text()?,
            formats: body.list(2, Body::i16)?,
            values: body.list(4, Body::value)?,
            results: body.list(2, Body::i16)?,
        },
        b'D' => Message::Describe(body.target()?, body.text()?),
        b'C' => Message::Close(body.target()?, body.text()?),
        b'E' => Message::Execute {
            portal: body.text()?,
            // A negative limit means all rows, too.
            limit: usize::try_from(body.i32()?).unwrap_or(0),
        },
        b'H' => Message::Flush,
        b'S' => Message::Sync,
        b'X' => Message::Terminate,
        b'F' => return Ok(Message::FunctionCall),
        _ => return Ok(Message::Copy),
    };
    body.end(message)
}

/// What is left of a message.
struct Body(Bytes);

impl Body {
    fn need(&self, bytes: usize) -> Result<(), Error> {
        if self.0.len() < bytes {
            Err(Error::Protocol("insufficient data left in message"))
        } else {
            Ok(())
        }
    }

    fn i16(&mut self) -> Result<i16, Error> {
        self.need(2)?;
        Ok(self.0.get_i16())
    }

    fn i32(&mut self) -> Result<i32, Error> {
        self.need(4)?;
        Ok(self.0.get_i32())
    }

    /// Text up to a zero byte.
    fn text(&mut self) -> Result<String, Error> {
        let end = self.0.iter().position(|byte| *byte == 0);
        let text = self
            .0
            .split_to(end.ok_or(Error::Protocol("invalid string in message"))?);
        self.0.advance(1);
        String::from_utf8(text.into()).map_err(|_| Error::Protocol("invalid byte sequence for encoding \"UTF8\""))
    }

    /// A count, and that many items of at least `bytes` bytes each.
    fn list<T>(&mut self, bytes: usize, mut item: impl FnMut(&mut Self) -> Result<T, Error>) -> Result<Vec<T>, Error> {
        let count = usize::from(self.i16()? as u16);
        self.need(count * bytes)?;
        (0..count).map(|_| item(self)).collect()
    }

    fn value(&mut self) -> Result<Option<Bytes>, Error> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let length = usize::try_from(length).map_err(|_| Error::Protocol("invalid length of a parameter"))?;
        self.need(length)?;
        Ok(Some(self.0.split_to(length)))
    }

    fn target(&mut self) -> Result<Target, Error> {
        self.need(1)?;
        match self.0.get_u8() {
            b'S' => Ok(Target::Statement),
            b'P' => Ok(Target::Portal),
            _ => Err(Error::Protocol("invalid subtype of a message")),
        }
    }

    fn end<T>(&self, message: T) -> Result<T, Error> {
        if self.0.is_empty() {
            Ok(message)
        } else {
            Err(Error::Protocol("invalid message format"))
        }
    }
}

#[cfg(test)]
mod tests;
