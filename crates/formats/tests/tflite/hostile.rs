//! Files that were made to mislead a reader, one for each way a file can be wrong.

use qat_formats::tflite::*;

use super::models::{everything, fully_connected};

#[test]
fn placeholder() {
    let _ = (everything(), fully_connected(), check(&Model::default()));
}
