//! Who did what.

use axum::extract::State;

use super::super::params::Params;
use super::super::problem::Problem;
use super::super::services::Api;
use super::{PageBody, page};
use crate::store::audit::shape::EntryBody;

pub(super) async fn list(
    State(api): State<Api>,
    mut params: Params,
) -> Result<axum::Json<PageBody<EntryBody>>, Problem> {
    let wanted = params.page()?;
    params.finish()?;
    let listed = api.stores.audit.entries(&wanted).await?;
    Ok(page(listed, EntryBody::from))
}
