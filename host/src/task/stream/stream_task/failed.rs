//! Records that failed: judged, and kept as dead letters in the task's own transactions.

use tributary_sdk::Batch;

use super::{Done, Running, part};
use crate::log::LogRecords;
use crate::task::dead_letters::Letterhead;
use crate::task::delivery::Part;
use crate::task::errors::{FailedRecord, Stage, TaskError};
use crate::task::inbound::Inbound;
use crate::task::letter_headers::{AS_PRODUCED, Context};
use crate::task::polled::{Polled, source_context};
use crate::task::rows;
use crate::task::transaction::{Piece, Refusal, entry_refused};

impl Running {
    /// Rows of a batch, by their numbers, that do not go on.
    pub(super) fn refuse(
        &mut self,
        batch: &Batch,
        from: Option<&Inbound>,
        rows: Vec<(usize, String)>,
        class: &str,
    ) -> Done {
        if rows.is_empty() {
            return Ok(());
        }
        let made = !matches!(batch.offsets, tributary_sdk::Offsets::Sink(_));
        let failed = |row, message| FailedRecord::data(row, Stage::Transformation, class, message);
        match from.filter(|_| !made) {
            Some(inbound) => {
                let row = |(row, message)| failed(inbound.row_of(batch, row), message);
                let failed = rows.into_iter().map(row).collect::<Vec<_>>();
                self.dispose(&failed, inbound, &inbound.fetched.records)
            }
            None => {
                let failed = rows.into_iter().map(|(row, message)| failed(row, message));
                self.dispose_made(&failed.collect::<Vec<_>>(), &Polled(batch.clone()))
            }
        }
    }

    /// Judges records that failed, and makes dead letters of those that are tolerated.
    pub(super) fn dispose(&mut self, failed: &[FailedRecord], origin: &Inbound, records: &LogRecords) -> Done {
        if failed.is_empty() {
            return Ok(());
        }
        self.errors.judge(failed, origin)?;
        let Some(head) = &self.dead_letters else { return Ok(()) };
        let letters = letters(head, failed, records, |row| origin.context(row))?;
        self.add(letters);
        Ok(())
    }

    /// The same for records that are not those of the input any more: what is kept of them is what they are.
    pub(super) fn dispose_made(&mut self, failed: &[FailedRecord], polled: &Polled) -> Done {
        if failed.is_empty() {
            return Ok(());
        }
        self.errors.judge(failed, polled)?;
        if let Some(head) = &self.dead_letters {
            let letters = made_letters(head, failed, polled)?;
            self.add(letters);
        }
        Ok(())
    }

    /// Records that the log refused for good are left out of the transaction, if that is tolerated.
    pub(super) fn refused(&mut self, refusals: Vec<Refusal>) -> Done {
        for (part, lost) in self.transactor.take_out(refusals)? {
            let failed = lost.iter().map(|(row, error)| FailedRecord::produce(*row, error)).collect::<Vec<_>>();
            let Some((_, error)) = lost.first() else { continue };
            if self.state.as_ref().is_some_and(|state| *state.changelog == *part.topic) {
                return Err(entry_refused(&part.topic, error).into());
            }
            if let Some(head) = self.dead_letters.as_ref().filter(|head| head.topic == part.topic) {
                self.control.counters.errors.dead_letters_refused(lost.len());
                return Err(head.refused(error).into());
            }
            self.errors.judge(&failed, &part)?;
            if let Some(head) = &self.dead_letters {
                let context = |row: usize| source_context(&part.topic, None, None, row, AS_PRODUCED);
                let letters = letters(head, &failed, &part.records, context)?;
                self.bytes += letters.records.bytes();
                // The transaction may be complete already.
                self.transactor.pieces.push(Piece::of([letters]));
                self.transactor.changed();
            }
        }
        Ok(())
    }
}

/// Failed rows of records as dead letters.
pub(super) fn letters(
    head: &Letterhead,
    failed: &[FailedRecord],
    records: &LogRecords,
    context: impl Fn(usize) -> Context,
) -> Result<Part, TaskError> {
    let picked = failed.iter().map(|record| record.row).collect::<Vec<_>>();
    let records = rows::take_records(records, &picked).map_err(|error| TaskError::new(error.to_string()))?;
    let records = head.letters(records, &failed.iter().collect::<Vec<_>>(), |row| context(picked[row]));
    Ok(part(&head.topic, records))
}

/// The same of records that were made.
pub(super) fn made_letters(head: &Letterhead, failed: &[FailedRecord], polled: &Polled) -> Result<Part, TaskError> {
    let rows = failed.iter().map(|failed| failed.row).collect::<Vec<_>>();
    let context = |row: usize| polled.context(rows[row]);
    let records = head.letters(polled.records(&rows)?, &failed.iter().collect::<Vec<_>>(), context);
    Ok(part(&head.topic, records))
}
