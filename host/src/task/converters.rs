//! The three converters of one task, with the class names that errors show.

use crate::converter::{Converter, HeaderConverter};

/// A converter and its class.
pub struct Named<C: ?Sized> {
    /// Class name as configured.
    pub class: String,
    /// The converter, configured.
    pub converter: Box<C>,
}

/// Key, value and header converter.
pub struct Converters {
    /// For keys.
    pub key: Named<dyn Converter>,
    /// For values.
    pub value: Named<dyn Converter>,
    /// For headers.
    pub header: Named<dyn HeaderConverter>,
}
