//! What can be told about imported C structures before anything follows their pointers for real.
//!
//! The Arrow crate's import trusts its input: it asserts, it takes the last offset for a buffer's length, it dereferences
//! children. So a walk comes first that checks counts, null pointers, types that may cross, null counts and the ends of
//! offset buffers. The contents (all offsets, UTF-8, dictionary keys) are validated after the import.

use std::ffi::{CStr, c_char, c_void};

use arrow_schema::DataType;
use arrow_schema::ffi::FFI_ArrowSchema;
use tributary_abi::{ArrowArray, ArrowSchema};

/// Deeper nesting than anyone's data has: ends the walk through a cyclic structure.
const MAX_DEPTH: usize = 64;
/// As Arrow's own 32-bit offsets allow.
const MAX_ROWS: i64 = i32::MAX as i64;
/// Of one metadata key or value: a length beyond it is garbage.
const MAX_METADATA: i32 = 1 << 26;

/// Checks both structs, and that they describe each other. Answers the type, which is expensive to make.
///
/// # Safety
/// Both point to whole C structs; non-null pointers in them point to what the C Data Interface says, and the buffers are
/// as long as lengths and offsets say.
pub(super) unsafe fn structures(schema: *const ArrowSchema, array: *const ArrowArray) -> Result<DataType, String> {
    // SAFETY: the caller's promise, here and below.
    unsafe {
        if (*schema).release.is_none() || (*array).release.is_none() {
            return Err("its schema or array is already released or was moved elsewhere".into());
        }
        check_schema(schema, "batch", 0)?;
        let data_type = DataType::try_from(&*schema.cast::<FFI_ArrowSchema>()).map_err(|error| error.to_string())?;
        if !matches!(data_type, DataType::Struct(_)) {
            return Err(format!("it must be a struct of columns, and is {data_type}"));
        }
        check_array(array, &data_type, "batch")?;
        Ok(data_type)
    }
}

unsafe fn check_schema(schema: *const ArrowSchema, path: &str, depth: usize) -> Result<(), String> {
    if schema.is_null() {
        return Err(format!("{path} has no schema (null pointer)"));
    }
    if depth > MAX_DEPTH {
        return Err(format!("{path} is nested more than {MAX_DEPTH} deep"));
    }
    // SAFETY: not null; the promise of `structures`.
    let schema = unsafe { &*schema };
    // SAFETY: as above.
    let format = unsafe { c_text(schema.format) }
        .ok_or_else(|| format!("the type of {path} is null or not UTF-8"))?
        .ok_or_else(|| format!("{path} has no type (null format)"))?;
    // SAFETY: as above.
    if unsafe { c_text(schema.name) }.is_none() {
        return Err(format!("the name of {path} is not UTF-8"));
    }
    // SAFETY: as above.
    unsafe { check_metadata(schema.metadata, path)? };
    let children = schema.n_children;
    let wanted = children_of(format).ok_or_else(|| {
        format!("{path} has the type \"{format}\", which does not cross the plugin boundary (no unions, views or run-end encoding)")
    })?;
    if wanted.map_or(!(0..=100_000).contains(&children), |wanted| wanted != children) {
        return Err(format!("{path} of type \"{format}\" cannot have {children} children"));
    }
    if children > 0 && schema.children.is_null() {
        return Err(format!("{path} says it has {children} children, and its list of children is null"));
    }
    for at in 0..children as usize {
        // SAFETY: `children` points to `n_children` pointers.
        let child = unsafe { *schema.children.add(at) };
        // SAFETY: null is checked first thing; the promise of `structures`.
        unsafe { check_schema(child, &child_path(path, child, at), depth + 1)? };
    }
    if format == "+m" {
        // SAFETY: one child, which was just checked.
        let entries = unsafe { &**schema.children };
        // SAFETY: its format was just read.
        if unsafe { c_text(entries.format) } != Some(Some("+s")) || entries.n_children != 2 {
            return Err(format!("the entries of map {path} must be a struct of key and value"));
        }
    }
    if !schema.dictionary.is_null() {
        if !matches!(format, "c" | "C" | "s" | "S" | "i" | "I" | "l" | "L") {
            return Err(format!("{path} is a dictionary with keys of type \"{format}\", which must be integers"));
        }
        // SAFETY: not null; the promise of `structures`.
        unsafe { check_schema(schema.dictionary, path, depth + 1)? };
    }
    Ok(())
}

/// Number of children a type has; `Some(None)`: any; `None`: the type may not cross.
fn children_of(format: &str) -> Option<Option<i64>> {
    match format {
        "+s" => Some(None),
        "+l" | "+L" | "+m" => Some(Some(1)),
        "n" | "b" | "c" | "C" | "s" | "S" | "i" | "I" | "l" | "L" | "e" | "f" | "g" | "z" | "Z" | "u" | "U" => {
            Some(Some(0))
        }
        _ if format.starts_with("+w:") => Some(Some(1)).filter(|_| not_negative(&format[3..])),
        _ if format.starts_with("w:") => Some(Some(0)).filter(|_| not_negative(&format[2..])),
        _ if format.starts_with('t') || format.starts_with("d:") => Some(Some(0)),
        _ => None,
    }
}

fn not_negative(width: &str) -> bool {
    width.parse::<i32>().is_ok_and(|width| width >= 0)
}

/// The text of a C string: `Some(None)` for null, `None` when it is not UTF-8.
unsafe fn c_text<'a>(text: *const c_char) -> Option<Option<&'a str>> {
    if text.is_null() {
        return Some(None);
    }
    // SAFETY: not null, and terminated by the promise of `structures`.
    unsafe { CStr::from_ptr(text) }.to_str().ok().map(Some)
}

unsafe fn check_metadata(metadata: *const c_char, path: &str) -> Result<(), String> {
    if metadata.is_null() {
        return Ok(());
    }
    let mut at = metadata.cast::<u8>();
    let mut next = || {
        // SAFETY: the metadata holds as many numbers and bytes as its own counts say: the promise of `structures`.
        let number = unsafe { at.cast::<i32>().read_unaligned() };
        at = at.wrapping_add(4);
        number
    };
    let pairs = next();
    if !(0..=100_000).contains(&pairs) {
        return Err(format!("the metadata of {path} says it has {pairs} entries"));
    }
    // Only counts are read here; the walk over the bytes is the importer's, with the same numbers.
    for _ in 0..2 * i64::from(pairs) {
        let length = {
            // SAFETY: as above.
            let number = unsafe { at.cast::<i32>().read_unaligned() };
            at = at.wrapping_add(4);
            number
        };
        if !(0..=MAX_METADATA).contains(&length) {
            return Err(format!("the metadata of {path} has an entry of {length} bytes"));
        }
        at = at.wrapping_add(length as usize);
    }
    Ok(())
}

fn child_path(path: &str, child: *const ArrowSchema, at: usize) -> String {
    if child.is_null() {
        return format!("{path}.{at}");
    }
    // SAFETY: not null; the promise of `structures`.
    match unsafe { c_text((*child).name) } {
        Some(Some(name)) if path == "batch" => format!("column {name}"),
        Some(Some(name)) => format!("{path}.{name}"),
        _ => format!("{path}.{at}"),
    }
}

unsafe fn check_array(array: *const ArrowArray, data_type: &DataType, path: &str) -> Result<(), String> {
    if array.is_null() {
        return Err(format!("{path} has no array (null pointer)"));
    }
    // SAFETY: not null; the promise of `structures`.
    let array = unsafe { &*array };
    if array.release.is_none() {
        return Err(format!("the array of {path} is already released or was moved elsewhere"));
    }
    let (length, offset) = (array.length, array.offset);
    if !(0..=MAX_ROWS).contains(&length) || !(0..=MAX_ROWS).contains(&offset) || length + offset > MAX_ROWS {
        return Err(format!("{path} has a length of {length} and an offset of {offset}: out of range"));
    }
    let rows = (length + offset) as usize;
    let layout = arrow_data::layout(data_type);
    let nullable = layout.can_contain_null_mask;
    let wanted = layout.buffers.len() + usize::from(nullable);
    if array.n_buffers != wanted as i64 {
        return Err(format!("{path} of type {data_type} has {} buffers, it must have {wanted}", array.n_buffers));
    }
    if wanted > 0 && array.buffers.is_null() {
        return Err(format!("{path} has a null list of buffers"));
    }
    // SAFETY: `buffers` points to `n_buffers` pointers.
    let buffer = |at: usize| unsafe { *array.buffers.add(at) };
    // Children first: they tell a length that is wrong before a bitmap or offsets are read that far.
    // SAFETY: the promise of `structures`.
    unsafe { check_children(array, data_type, rows, path)? };
    // SAFETY: a buffer that is not null is as long as length and offset say: the promise of `structures`.
    unsafe {
        check_buffers(&buffer, data_type, rows, length, path)?;
        if nullable { check_nulls(array, buffer(0), path) } else { Ok(()) }
    }
}

unsafe fn check_nulls(array: &ArrowArray, bitmap: *const c_void, path: &str) -> Result<(), String> {
    let (claimed, length) = (array.null_count, array.length);
    if !(-1..=length).contains(&claimed) {
        return Err(format!("{path} has {length} rows and says {claimed} of them are null"));
    }
    if bitmap.is_null() {
        return match claimed {
            -1 | 0 => Ok(()),
            _ => Err(format!("{path} says {claimed} rows are null, but has no validity bitmap")),
        };
    }
    if claimed >= 0 {
        let (from, rows) = (array.offset as usize, length as usize);
        // SAFETY: the caller's promise: the bitmap covers offset and length.
        let bytes = unsafe { std::slice::from_raw_parts(bitmap.cast::<u8>(), (from + rows).div_ceil(8)) };
        let valid = arrow_buffer::bit_chunk_iterator::UnalignedBitChunk::new(bytes, from, rows).count_ones();
        if rows - valid != claimed as usize {
            return Err(format!("{path} says {claimed} rows are null, its bitmap says {}", rows - valid));
        }
    }
    Ok(())
}

unsafe fn check_buffers(
    buffer: &dyn Fn(usize) -> *const c_void,
    data_type: &DataType,
    rows: usize,
    length: i64,
    path: &str,
) -> Result<(), String> {
    let missing = |what: &str| Err(format!("{path} of type {data_type} has no {what} (null buffer)"));
    let ends = match data_type {
        DataType::Utf8 | DataType::Binary | DataType::List(_) | DataType::Map(..) => {
            if buffer(1).is_null() {
                return missing("offsets");
            }
            let offsets = buffer(1).cast::<i32>();
            // SAFETY: an offset buffer has a number more than rows: the promise of `structures`.
            unsafe { (offsets.read_unaligned().into(), offsets.add(rows).read_unaligned().into()) }
        }
        DataType::LargeUtf8 | DataType::LargeBinary | DataType::LargeList(_) => {
            if buffer(1).is_null() {
                return missing("offsets");
            }
            let offsets = buffer(1).cast::<i64>();
            // SAFETY: as above.
            unsafe { (offsets.read_unaligned(), offsets.add(rows).read_unaligned()) }
        }
        DataType::Null | DataType::Struct(_) | DataType::FixedSizeList(..) => (0, 0),
        DataType::FixedSizeBinary(0) => (0, 0),
        _ if rows > 0 && buffer(1).is_null() => return missing("values"),
        _ => (0, 0),
    };
    let (first, last): (i64, i64) = ends;
    if first < 0 || last < first || last > isize::MAX as i64 / 2 {
        return Err(format!("the offsets of {path} go from {first} to {last}: they must not be negative nor fall"));
    }
    let has_bytes =
        matches!(data_type, DataType::Utf8 | DataType::Binary | DataType::LargeUtf8 | DataType::LargeBinary);
    // An array of no rows may say anything in its one offset: nothing reads it.
    if has_bytes && last > 0 && (length > 0 || rows > 0) && buffer(2).is_null() {
        return missing("bytes");
    }
    Ok(())
}

unsafe fn check_children(array: &ArrowArray, data_type: &DataType, rows: usize, path: &str) -> Result<(), String> {
    let fields: Vec<&arrow_schema::FieldRef> = match data_type {
        DataType::Struct(fields) => fields.iter().collect(),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => vec![field],
        _ => Vec::new(),
    };
    if array.n_children != fields.len() as i64 {
        return Err(format!(
            "{path} has {} child arrays, its type has {}: they must be equal",
            array.n_children,
            fields.len()
        ));
    }
    if !fields.is_empty() && array.children.is_null() {
        return Err(format!("{path} has a null list of child arrays"));
    }
    for (at, field) in fields.iter().enumerate() {
        let name = field.name();
        let child_path = if path == "batch" { format!("column {name}") } else { format!("{path}.{name}") };
        // SAFETY: `children` points to `n_children` pointers; null is checked by the callee.
        let child = unsafe { *array.children.add(at) };
        // SAFETY: the promise of `structures`.
        unsafe { check_array(child, field.data_type(), &child_path)? };
        let least = match data_type {
            DataType::Struct(_) => rows as i64,
            DataType::FixedSizeList(_, width) => rows as i64 * i64::from(*width),
            _ => 0,
        };
        // SAFETY: `check_array` refused null.
        let length = unsafe { (*child).length };
        if length < least {
            return Err(format!("{child_path} has {length} rows, {least} are needed"));
        }
    }
    match (data_type, array.dictionary.is_null()) {
        // SAFETY: not null; the promise of `structures`.
        (DataType::Dictionary(_, values), false) => unsafe {
            check_array(array.dictionary, values, &format!("{path} (dictionary)"))
        },
        (DataType::Dictionary(..), true) => Err(format!("{path} has no dictionary (null pointer)")),
        (_, false) => Err(format!("{path} of type {data_type} has a dictionary")),
        (_, true) => Ok(()),
    }
}
