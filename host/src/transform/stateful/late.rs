//! Records that are late: by the watermark, everything that they could count for is over.

use tributary_sdk::Batch;

use super::settings::LateAction;
use super::step::Emitted;
use crate::transform::merge::Merged;

/// Does with late records (by their places in the batch, increasing) what the config says.
pub(super) fn late_records(
    action: &LateAction,
    batch: &Batch,
    origins: &[u32],
    late: &[usize],
    refused: &mut Vec<(usize, String)>,
    emitted: &mut Emitted,
) {
    match action {
        LateAction::Drop => emitted.dropped += late.len(),
        LateAction::Fail => {
            let message = "the record is late: by the watermark, everything that it could count for is over";
            refused.extend(late.iter().map(|at| (*at, message.to_owned())));
        }
        LateAction::Route(topic) => {
            // Runs of rows, without copying.
            let mut rest = late;
            while let Some(&from) = rest.first() {
                let length = rest.iter().enumerate().take_while(|(i, at)| from + i == **at).count();
                let mut batch = batch.slice(from, length);
                batch.topic = topic.clone();
                emitted.routed.push(Merged { batch, rows: origins[from..from + length].to_vec() });
                rest = &rest[length..];
            }
        }
    }
}
