//! A verification from end to end: one view after another, for they would only wait for the
//! same disk and the same store. A view that fails does not keep the others from being verified.

use super::report::{VerifyReport, VerifyRequest, ViewVerification};
use super::view::ViewJob;
use crate::call::Call;
use crate::config::RepoConfig;
use crate::error::{ErrorKind, Result};
use crate::materialize::select::{require_native, select_views};
use crate::materialize::{Progress, ViewFailure};
use crate::registry::Catalog;
use crate::store::OnlineStore;

/// Compares what `store` has of some views with what their sources say, by the intervals that
/// `catalog` has of them. Views that fail are in the report. `Err` where nothing could be begun,
/// or the caller asked to stop. Interrupts and progress are looked after on the calling thread.
pub fn verify(
    request: &VerifyRequest,
    catalog: &Catalog,
    store: &dyn OnlineStore,
    config: &RepoConfig,
    progress: &dyn Progress<ViewVerification>,
    call: &Call<'_>,
) -> Result<VerifyReport> {
    request.check()?;
    let views = select_views(catalog, Some(&request.views))?;
    require_native(config, catalog, &views)?;
    let mut report = VerifyReport::default();
    for view in views {
        match (ViewJob { view, request, store, config, progress, call }).run() {
            Ok(verified) => {
                progress.view_finished(&verified);
                report.views.push(verified);
            }
            Err(error) => {
                let is_asked = error.kind() == ErrorKind::Interrupted;
                let error = error.context(format_args!("view '{}'", view.name));
                progress.view_failed(&view.name, &error);
                if is_asked {
                    return Err(error);
                }
                report.failures.push(ViewFailure { view: view.name.clone(), error });
            }
        }
    }
    Ok(report)
}
