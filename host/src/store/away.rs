//! A store that cannot be reached, for tests.

use async_trait::async_trait;

use super::{Condition, Error, Result, Store};

/// Refuses everything.
#[derive(Debug)]
pub(crate) struct Away;

#[async_trait]
impl Store for Away {
    async fn get(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Err(Error::Unavailable)
    }
    async fn get_many(&self, _: &[String]) -> Result<Vec<Option<Vec<u8>>>> {
        Err(Error::Unavailable)
    }
    async fn take(&self, _: &str) -> Result<Option<Vec<u8>>> {
        Err(Error::Unavailable)
    }
    async fn set(&self, _: &str, _: &[u8], _: u32, _: Condition) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn compare_and_set(&self, _: &str, _: &[u8], _: &[u8], _: u32) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn delete(&self, _: &[String]) -> Result<u32> {
        Err(Error::Unavailable)
    }
    async fn expire(&self, _: &str, _: u32) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn increment(&self, _: &str, _: i64, _: u32) -> Result<i64> {
        Err(Error::Unavailable)
    }
    async fn set_add(&self, _: &str, _: &str, _: u32) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn set_remove(&self, _: &str, _: &str) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn set_contains(&self, _: &str, _: &str) -> Result<bool> {
        Err(Error::Unavailable)
    }
    async fn set_members(&self, _: &str) -> Result<Vec<String>> {
        Err(Error::Unavailable)
    }
    async fn announce(&self, _: &str, _: &str, _: &str) -> Result<()> {
        Err(Error::Unavailable)
    }
}
