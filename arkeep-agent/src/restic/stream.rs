//! JSON that is read while it comes, so that a long answer takes no more memory than what is
//! kept of it.

use std::io::{self, Read};

use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Reads one JSON array from the chunks that are sent; what comes before and after it is passed
/// over. `None` when there is no array at all.
pub(super) fn array<T: DeserializeOwned + Send + 'static>()
-> (mpsc::Sender<Vec<u8>>, JoinHandle<io::Result<Option<T>>>) {
    let (sender, receiver) = mpsc::channel(4);
    let parsed = tokio::task::spawn_blocking(move || parse(Chunks::new(receiver, LONGEST)));
    (sender, parsed)
}

fn parse<T: DeserializeOwned>(mut chunks: Chunks) -> io::Result<Option<T>> {
    if !chunks.skip_to(b'[')? {
        return Ok(None);
    }
    let mut json = serde_json::Deserializer::from_reader(&mut chunks);
    let array = T::deserialize(&mut json)?;
    // The writer is heard out: what it says after the array is about the rest of its work.
    io::copy(&mut chunks, &mut io::sink())?;
    Ok(Some(array))
}

#[derive(Debug)]
struct Chunks {
    source: mpsc::Receiver<Vec<u8>>,
    chunk: Vec<u8>,
    read: usize,
    left: u64,
}

impl Chunks {
    const fn new(source: mpsc::Receiver<Vec<u8>>, longest: u64) -> Self {
        Self {
            source,
            chunk: Vec::new(),
            read: 0,
            left: longest,
        }
    }

    /// What is at hand; empty at the end.
    fn rest(&mut self) -> io::Result<&[u8]> {
        while self.read >= self.chunk.len() {
            let Some(chunk) = self.source.blocking_recv() else {
                return Ok(&[]);
            };
            self.left = self
                .left
                .checked_sub(u64::try_from(chunk.len()).unwrap_or(u64::MAX))
                .ok_or_else(|| io::Error::other("the answer is too long"))?;
            self.chunk = chunk;
            self.read = 0;
        }
        Ok(self.chunk.get(self.read..).unwrap_or_default())
    }

    fn skip_to(&mut self, byte: u8) -> io::Result<bool> {
        loop {
            let rest = self.rest()?;
            if rest.is_empty() {
                return Ok(false);
            }
            let place = rest.iter().position(|&other| other == byte);
            let skipped = place.unwrap_or(rest.len());
            self.read += skipped;
            if place.is_some() {
                return Ok(true);
            }
        }
    }
}

impl Read for Chunks {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.rest()?;
        let read = rest.read(out)?;
        self.read += read;
        Ok(read)
    }
}

const LONGEST: u64 = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde::de::IgnoredAny;

    use super::*;

    #[derive(Debug, Deserialize, PartialEq)]
    struct Item {
        id: u32,
    }

    async fn read(chunks: &[&[u8]]) -> io::Result<Option<Vec<Item>>> {
        let (sender, parsed) = array();
        for chunk in chunks {
            let _ = sender.send(chunk.to_vec()).await;
        }
        drop(sender);
        parsed.await?
    }

    /// G4
    #[tokio::test]
    async fn an_array_may_come_in_pieces_among_other_words() -> io::Result<()> {
        let read = read(&[
            b"note\n[{\"i",
            b"d\":7,\"x\":[1]",
            b"}]\nloading [1]\n",
            b"done",
        ])
        .await?;

        assert_eq!(read, Some(vec![Item { id: 7 }]));
        Ok(())
    }

    /// G4
    #[tokio::test]
    async fn an_answer_that_breaks_off_is_an_error_and_none_is_none() -> io::Result<()> {
        assert!(read(&[b"[{\"id\":7},"]).await.is_err());
        assert_eq!(read(&[b"null\n"]).await?, None);
        assert_eq!(read(&[]).await?, None);
        Ok(())
    }

    /// G4
    #[tokio::test]
    async fn an_answer_without_end_is_given_up() -> io::Result<()> {
        let (sender, receiver) = mpsc::channel(4);
        let parsed = tokio::task::spawn_blocking(move || {
            parse::<IgnoredAny>(Chunks::new(receiver, 1 << 20))
        });
        let flood = tokio::spawn(async move {
            let mut sent = sender.send(b"[\"".to_vec()).await;
            while sent.is_ok() {
                sent = sender.send(vec![b'x'; 1 << 16]).await;
            }
        });

        assert!(parsed.await?.is_err());
        flood.await?;
        Ok(())
    }
}
