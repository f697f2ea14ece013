use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose other end must say in time which protocol it speaks.
///
/// Whoever tells HTTP/1 from HTTP/2 waits for as many bytes as the preface of HTTP/2 has (RFC 9113
/// §3.4), and no other limit of time runs before that is decided.
#[derive(Debug)]
pub(super) struct Prompt<T> {
    stream: T,
    missing: usize,
    deadline: Pin<Box<Sleep>>,
}

impl<T> Prompt<T> {
    pub(super) fn new(stream: T, patience: Duration) -> Self {
        Self {
            stream,
            missing: PREFACE,
            deadline: Box::pin(sleep(patience)),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Prompt<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.missing > 0 && self.deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, buffer));
        let came = buffer.filled().len() - before;
        self.missing = self.missing.saturating_sub(came);
        Poll::Ready(read)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Prompt<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// `PRI * HTTP/2.0`, and what follows it.
const PREFACE: usize = 24;

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(15);

    /// S10
    #[tokio::test(start_paused = true)]
    async fn silence_ends_in_time() -> io::Result<()> {
        for said in ["", "P", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
            let (mut client, server) = duplex(64);
            client.write_all(said.as_bytes()).await?;
            let mut server = Prompt::new(server, PATIENCE);

            let mut heard = Vec::new();
            let ended = server.read_to_end(&mut heard).await;

            let kind = ended.map_err(|error| error.kind());
            assert_eq!(kind, Err(io::ErrorKind::TimedOut), "{said:?}");
            assert_eq!(heard, said.as_bytes());
        }
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_spoken_may_be_silent() -> io::Result<()> {
        let (mut client, server) = duplex(64);
        let mut server = Prompt::new(server, PATIENCE);
        client.write_all(&[b'x'; PREFACE]).await?;
        let mut preface = [0; PREFACE];
        server.read_exact(&mut preface).await?;

        tokio::time::advance(2 * PATIENCE).await;
        client.write_all(b"later").await?;
        let mut later = [0; 5];
        server.read_exact(&mut later).await?;

        assert_eq!(&later, b"later");
        Ok(())
    }
}
