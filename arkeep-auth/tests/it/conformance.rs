use std::sync::Arc;

use arkeep_auth::testing::MemoryStore;
use arkeep_auth::testing::conformance::{
    MemoryBackend, api_token_store, factor_store, revocation_store, session_store, user_store,
};
use arkeep_core::StoreError;

fn backend() -> MemoryBackend {
    MemoryBackend::new(Arc::new(MemoryStore::default()))
}

/// A6
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_keeps_sessions() -> Result<(), StoreError> {
    session_store::all(&backend()).await
}

/// A4
#[tokio::test]
async fn the_memory_store_keeps_revocations() -> Result<(), StoreError> {
    revocation_store::all(&backend()).await
}

/// A4
#[tokio::test]
async fn the_memory_store_keeps_users() -> Result<(), StoreError> {
    user_store::all(&backend()).await
}

/// A12
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_memory_store_keeps_second_factors() -> Result<(), StoreError> {
    let store = Arc::new(MemoryStore::default());
    let backend = MemoryBackend::new(Arc::clone(&store));
    factor_store::all(store, &backend).await
}

/// A13
#[tokio::test]
async fn the_memory_store_keeps_api_tokens() -> Result<(), StoreError> {
    let store = Arc::new(MemoryStore::default());
    let backend = MemoryBackend::new(Arc::clone(&store));
    api_token_store::all(store, &backend).await
}
