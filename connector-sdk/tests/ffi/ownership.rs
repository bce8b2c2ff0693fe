//! Each array and schema is released exactly once, whoever drops it, whatever fails.

use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};

use tributary_abi as abi;
use tributary_sdk::ffi::Collector;

use super::*;

/// How often the counted structs were released.
#[derive(Default)]
struct Count {
    arrays: AtomicUsize,
    schemas: AtomicUsize,
}

/// The real release callback behind the counting one.
struct Wrapped<T> {
    release: unsafe extern "C" fn(*mut T),
    private_data: *mut c_void,
    count: Arc<Count>,
}

unsafe extern "C" fn release_array(array: *mut abi::ArrowArray) {
    // SAFETY: made by `counted`.
    unsafe {
        let wrapped = Box::from_raw((*array).private_data.cast::<Wrapped<abi::ArrowArray>>());
        wrapped.count.arrays.fetch_add(1, Ordering::SeqCst);
        (*array).private_data = wrapped.private_data;
        (wrapped.release)(array);
    }
}

unsafe extern "C" fn release_schema(schema: *mut abi::ArrowSchema) {
    // SAFETY: made by `counted`.
    unsafe {
        let wrapped = Box::from_raw((*schema).private_data.cast::<Wrapped<abi::ArrowSchema>>());
        wrapped.count.schemas.fetch_add(1, Ordering::SeqCst);
        (*schema).private_data = wrapped.private_data;
        (wrapped.release)(schema);
    }
}

/// An exported batch whose releases are counted.
fn counted(batch: Batch) -> (Exported, Arc<Count>) {
    let count = Arc::new(Count::default());
    let mut exported = Exported::new(batch).unwrap();
    // SAFETY: valid until `exported` is dropped.
    let raw = unsafe { &mut *exported.as_mut_ptr() };
    let (array, schema) = (&mut raw.array, &mut raw.schema);
    let wrapped = Wrapped { release: array.release.unwrap(), private_data: array.private_data, count: count.clone() };
    array.private_data = Box::into_raw(Box::new(wrapped)).cast();
    array.release = Some(release_array);
    let wrapped = Wrapped { release: schema.release.unwrap(), private_data: schema.private_data, count: count.clone() };
    schema.private_data = Box::into_raw(Box::new(wrapped)).cast();
    schema.release = Some(release_schema);
    (exported, count)
}

#[track_caller]
fn assert_released(count: &Count, times: usize) {
    let released = (count.arrays.load(Ordering::SeqCst), count.schemas.load(Ordering::SeqCst));
    assert_eq!(released, (times, times), "(arrays, schemas) released");
}

#[test]
fn a_batch_that_nobody_takes() {
    let (exported, count) = counted(full());
    assert_released(&count, 0);
    drop(exported);
    assert_released(&count, 1);
}

#[test]
fn a_batch_that_is_taken_and_dropped() {
    let (mut exported, count) = counted(full());
    // SAFETY: just exported.
    let taken = unsafe { Taken::take(exported.as_mut_ptr()) }.unwrap();
    drop(exported);
    assert_released(&count, 0);
    drop(taken);
    assert_released(&count, 1);
}

#[test]
fn columns_keep_the_array_alive_on_any_thread() {
    let (mut exported, count) = counted(full());
    // SAFETY: just exported.
    let batch = unsafe { Taken::take(exported.as_mut_ptr()).unwrap().into_batch() }.unwrap();
    drop(exported);
    let slice = batch.slice(2, 1);
    drop(batch);
    assert_eq!(count.arrays.load(Ordering::SeqCst), 0, "a slice still points into it");
    std::thread::spawn(move || drop(slice)).join().unwrap();
    assert_released(&count, 1);
}

#[test]
fn a_malformed_batch() {
    let (mut exported, count) = counted(full());
    // SAFETY: valid until `exported` is dropped.
    unsafe { (*(*exported.as_mut_ptr()).array.children).as_mut().unwrap().length = -1 };
    // SAFETY: as far as it can be told, malformed in its length only.
    let result = unsafe { Taken::take(exported.as_mut_ptr()).unwrap().into_batch() };
    assert!(result.is_err());
    assert_released(&count, 1);
    drop(exported);
    assert_released(&count, 1);
}

#[test]
fn a_batch_too_small_to_be_one() {
    let (mut exported, count) = counted(full());
    // SAFETY: valid until `exported` is dropped.
    unsafe { (*exported.as_mut_ptr()).size = 8 };
    // SAFETY: `take` looks at the size first.
    let Err(error) = (unsafe { Taken::take(exported.as_mut_ptr()) }) else { panic!("taken") };
    assert!(error.to_string().contains("is `size` set?"), "{error}");
    drop(exported);
    assert_released(&count, 1);
    // SAFETY: null is allowed.
    assert!(unsafe { Taken::take(std::ptr::null_mut()) }.is_err());
}

#[test]
fn emitting_twice_what_was_moved() {
    let (mut exported, count) = counted(full());
    let mut statuses = Vec::new();
    let (result, mut collector) = Collector::run("poll", |call| {
        for _ in 0..2 {
            // SAFETY: a call under way, and a batch that the first emit moves.
            statuses.push(unsafe { ((*call).emit)((*call).ctx, exported.as_mut_ptr()) });
        }
        abi::OK
    });
    assert_eq!(statuses, [abi::OK, abi::FAILED]);
    assert!(
        result.unwrap_err().to_string().contains("already released or was moved"),
        "the plugin's OK counts for nothing"
    );
    let batches = collector.take_batches();
    assert_eq!(batches.len(), 1, "what was emitted before the mistake counts");
    drop((collector, exported));
    assert_eq!(count.arrays.load(Ordering::SeqCst), 0);
    drop(batches);
    assert_released(&count, 1);
}
