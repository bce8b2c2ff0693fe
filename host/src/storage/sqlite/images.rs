//! Images of compacted topics: what a worker has read of them, so that after a restart it reads only what is new.
//!
//! Rows and the offsets that they are as of are written together, so that an image is never newer or older than it says.

use std::collections::BTreeMap;

use rusqlite::params;

use super::SqliteStore;
use crate::storage::StorageError;

/// One topic's image.
#[derive(Clone)]
pub struct TopicImage {
    store: SqliteStore,
    topic: String,
    /// Of the rows: an image in another format is not used.
    format: u32,
}

/// A row: key, and value; `None` takes it out.
pub type ImageChange = (Vec<u8>, Option<Vec<u8>>);

/// An image as it was stored.
#[derive(Debug, Default)]
pub struct StoredImage {
    /// The topic's id at that time; empty where the cluster did not tell.
    pub topic_id: String,
    /// When it was last known to be as of its offsets, milliseconds since the epoch.
    pub saved_ms: i64,
    /// Next offset by partition; empty when there is no image.
    pub positions: BTreeMap<i32, i64>,
    /// Key and value of each row.
    pub rows: Vec<(Vec<u8>, Vec<u8>)>,
}

impl TopicImage {
    /// The image of a topic.
    pub fn new(store: &SqliteStore, topic: &str, format: u32) -> Self {
        Self { store: store.clone(), topic: topic.to_owned(), format }
    }

    /// What was stored last; an image in another format counts as none.
    pub fn load(&self) -> Result<StoredImage, StorageError> {
        self.store.read("reading the image of a topic", |connection| {
            let mut image = StoredImage::default();
            let mut statement = connection
                .prepare("SELECT partition, topic_id, format, next, saved_ms FROM topic_images WHERE topic = ?1")?;
            let mut rows = statement.query([&self.topic])?;
            while let Some(row) = rows.next()? {
                if row.get::<_, u32>(2)? != self.format {
                    return Ok(StoredImage::default());
                }
                image.positions.insert(row.get(0)?, row.get(3)?);
                image.topic_id = row.get(1)?;
                image.saved_ms = row.get(4)?;
            }
            if !image.positions.is_empty() {
                let mut statement = connection.prepare("SELECT key, value FROM topic_rows WHERE topic = ?1")?;
                let rows = statement.query_map([&self.topic], |row| Ok((row.get(0)?, row.get(1)?)))?;
                image.rows = rows.collect::<rusqlite::Result<_>>()?;
            }
            Ok(image)
        })
    }

    /// Stores changed rows and how far they go, without waiting.
    pub fn save(&self, topic_id: &str, positions: &BTreeMap<i32, i64>, changes: Vec<ImageChange>) {
        let saved_ms = now_ms();
        let (topic, topic_id, positions, format) =
            (self.topic.clone(), topic_id.to_owned(), positions.clone(), self.format);
        self.store.write_later("storing the image of a topic", move |transaction| {
            let mut put =
                transaction.prepare_cached("INSERT OR REPLACE INTO topic_rows (topic, key, value) VALUES (?1, ?2, ?3)")?;
            let mut remove = transaction.prepare_cached("DELETE FROM topic_rows WHERE topic = ?1 AND key = ?2")?;
            for (key, value) in &changes {
                match value {
                    Some(value) => put.execute(params![topic, key, value])?,
                    None => remove.execute(params![topic, key])?,
                };
            }
            let mut position = transaction.prepare_cached(
                "INSERT OR REPLACE INTO topic_images (topic, partition, topic_id, format, next, saved_ms) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (partition, next) in &positions {
                position.execute(params![topic, partition, topic_id, format, next, saved_ms])?;
            }
            Ok(())
        });
    }

    /// Forgets the image, without waiting.
    pub fn clear(&self) {
        let topic = self.topic.clone();
        self.store.write_later("removing the image of a topic", move |transaction| {
            transaction.execute("DELETE FROM topic_rows WHERE topic = ?1", [&topic])?;
            transaction.execute("DELETE FROM topic_images WHERE topic = ?1", [&topic])?;
            Ok(())
        });
    }
}

/// Milliseconds since the epoch.
fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}

impl StoredImage {
    /// How long ago it was last known to be as of its offsets.
    pub fn age(&self) -> std::time::Duration {
        std::time::Duration::from_millis(u64::try_from(now_ms().saturating_sub(self.saved_ms)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_comes_back_with_its_offsets_and_only_in_its_format() {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(directory.path()).unwrap();
        let image = TopicImage::new(&store, "t", 1);
        let other = TopicImage::new(&store, "u", 1);
        image.save(
            "id",
            &BTreeMap::from([(0, 5), (1, 7)]),
            vec![(b"a".into(), Some(b"1".into())), (b"b".into(), None)],
        );
        image.save("id", &BTreeMap::from([(1, 8)]), vec![(b"b".into(), Some(b"2".into()))]);
        other.save("", &BTreeMap::from([(0, 1)]), vec![(b"c".into(), Some(b"3".into()))]);
        drop((image, other, store));

        let store = SqliteStore::open(directory.path()).unwrap();
        let image = TopicImage::new(&store, "t", 1);
        let stored = image.load().unwrap();
        assert_eq!((stored.topic_id.as_str(), stored.positions), ("id", BTreeMap::from([(0, 5), (1, 8)])));
        assert_eq!(stored.rows, [(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec())]);
        assert!(TopicImage::new(&store, "t", 2).load().unwrap().positions.is_empty());
        image.clear();
        drop((image, store));
        let store = SqliteStore::open(directory.path()).unwrap();
        assert!(TopicImage::new(&store, "t", 1).load().unwrap().positions.is_empty());
        assert_eq!(TopicImage::new(&store, "u", 1).load().unwrap().rows.len(), 1);
    }
}
