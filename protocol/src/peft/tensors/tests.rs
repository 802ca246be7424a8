use super::super::samples::{SampleTensor, raw_file, weights_file};
use super::*;

fn tensor(dtype: &str, shape: &str, offsets: &str) -> String {
    format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}"#)
}

fn codes(file: &[u8]) -> Vec<ProblemCode> {
    TensorHeader::parse(file).expect_err("the header is wrong").listed.into_iter().map(|problem| problem.code).collect()
}

#[test]
fn a_header_reads_back_what_was_written() {
    let tensors = [SampleTensor::bf16("b", &[2, 3], 1.0), SampleTensor::f32("a", &[], 2.0)];
    let file = weights_file(&tensors);
    let header = TensorHeader::parse(&file).unwrap();
    assert_eq!(header.metadata["format"], "pt");
    assert_eq!((header.data_len, header.data_start + header.data_len), (16, file.len() as u64));
    for (entry, sample) in header.tensors.iter().zip(&tensors) {
        assert_eq!((&entry.name, entry.dtype, &entry.shape), (&sample.name, sample.dtype, &sample.shape));
        let data = &file[usize::try_from(header.data_start).unwrap()..];
        assert_eq!(entry.bytes(data), Some(sample.data.as_slice()));
    }
    assert_eq!(header.check_file_len(file.len() as u64), Ok(()));
    assert_eq!(header.check_file_len(file.len() as u64 - 1).unwrap_err().code, ProblemCode::Truncated);
    assert_eq!(header.check_file_len(file.len() as u64 + 1).unwrap_err().code, ProblemCode::TrailingBytes);
}

#[test]
fn each_fault_of_a_header_has_its_code() {
    let good = tensor("F32", "[2]", "[0,8]");
    for (header, expected) in [
        (format!(r#"{{"a":{good},"a":{good}}}"#), ProblemCode::DuplicateKey),
        (
            r#"{"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.to_owned(),
            ProblemCode::DuplicateKey,
        ),
        (r#"{"__metadata__":{"x":"1","x":"2"}}"#.to_owned(), ProblemCode::DuplicateKey),
        (format!(r#"{{"a":{}}}"#, tensor("F64", "[1]", "[0,8]")), ProblemCode::TensorType),
        (format!(r#"{{"a":{}}}"#, tensor("F8_E4M3", "[8]", "[0,8]")), ProblemCode::TensorType),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[3]", "[0,8]")), ProblemCode::TensorSize),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[4294967296,4294967296,4]", "[0,0]")), ProblemCode::TensorSize),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", "[8,0]")), ProblemCode::HeaderInvalid),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[-2]", "[0,8]")), ProblemCode::HeaderInvalid),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[2.0]", "[0,8]")), ProblemCode::HeaderInvalid),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[2,1,1,1,1,1,1,1,1]", "[0,8]")), ProblemCode::HeaderInvalid),
        (format!(r#"{{"a":{}}}"#, tensor("F32", "[2]", "[4,12]")), ProblemCode::TensorLayout),
        (format!(r#"{{"a":{good},"b":{good}}}"#), ProblemCode::TensorLayout),
        (format!(r#"{{"a":{good},"b":{}}}"#, tensor("F32", "[2]", "[12,20]")), ProblemCode::TensorLayout),
        (format!(r#"{{"a..b":{good}}}"#), ProblemCode::TensorName),
        (format!(r#"{{"":{good}}}"#), ProblemCode::TensorName),
        (format!(r#"{{"../../etc/passwd":{good}}}"#), ProblemCode::TensorName),
        (format!(r#"{{"{}":{good}}}"#, "a".repeat(513)), ProblemCode::TensorName),
        (r#"{"__metadata__":{"x":1}}"#.to_owned(), ProblemCode::HeaderInvalid),
        (format!(r#"{{"__metadata__":{{"x":"{}"}}}}"#, "y".repeat(MAX_METADATA_BYTES)), ProblemCode::TooLarge),
        (r#"{"a":[1]}"#.to_owned(), ProblemCode::HeaderInvalid),
        (r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"extra":1}}"#.to_owned(), ProblemCode::HeaderInvalid),
        ("{".to_owned(), ProblemCode::HeaderInvalid),
        ("{} {}".to_owned(), ProblemCode::HeaderInvalid),
        ("[]".to_owned(), ProblemCode::HeaderInvalid),
    ] {
        assert_eq!(codes(&raw_file(&header, &[0; 8])), [expected], "{}", header.chars().take(100).collect::<String>());
    }
}

#[test]
fn all_faults_are_found_at_once() {
    let header = format!(
        r#"{{"a..b":{},"c":{},"d":{}}}"#,
        tensor("F32", "[2]", "[0,8]"),
        tensor("I64", "[1]", "[8,16]"),
        tensor("F16", "[1]", "[16,20]")
    );
    let expected = [ProblemCode::TensorName, ProblemCode::TensorType, ProblemCode::TensorSize];
    assert_eq!(codes(&raw_file(&header, &[0; 20])), expected);
}

#[test]
fn too_many_tensors_and_too_long_a_header_are_refused() {
    let empty = tensor("F32", "[0]", "[0,0]");
    let header = |num: usize| {
        let entries: Vec<_> = (0..num).map(|index| format!(r#""t{index}":{empty}"#)).collect();
        format!("{{{}}}", entries.join(","))
    };
    assert_eq!(TensorHeader::parse(&raw_file(&header(MAX_TENSORS), &[])).unwrap().tensors.len(), MAX_TENSORS);
    assert_eq!(codes(&raw_file(&header(MAX_TENSORS + 2), &[])), [ProblemCode::TooLarge]);
    let mut long = (MAX_HEADER_BYTES as u64 + 1).to_le_bytes().to_vec();
    long.extend_from_slice(b"{}");
    assert_eq!(codes(&long), [ProblemCode::TooLarge]);
    assert_eq!(codes(&u64::MAX.to_le_bytes()), [ProblemCode::TooLarge]);
}

#[test]
fn a_file_that_ends_in_its_header_is_truncated() {
    let file = weights_file(&[SampleTensor::f32("a", &[2], 1.0)]);
    for len in [0, 7, 8, 9, 40] {
        assert_eq!(codes(&file[..len]), [ProblemCode::Truncated], "{len}");
    }
}

#[test]
fn other_formats_are_named() {
    for (start, name) in [
        (&b"PK\x03\x04\x00\x00\x08\x08\x00\x00rest of it"[..], "zip archive"),
        (b"\x80\x02}q\x00(X\x05\x00", "pickle file"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00", "pickle file"),
        (b"(dp0\nS'a'\n", "pickle file"),
        (b"GGUF\x03\x00\x00\x00\x10\x00\x00\x00", "GGUF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x1f\x8b\x08\x00\x12\x34\x56\x78\x00\x03", "gzip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        (b"{\"peft_type\":\"LORA\"}", "JSON"),
        (b"<!DOCTYPE html>", "web page"),
    ] {
        // What the eight bytes of the length show is enough, as an upload in small pieces has no more.
        for given in [start, &start[..8]] {
            let problems = TensorHeader::parse(given).unwrap_err();
            assert!(problems.has(ProblemCode::NotSafetensors), "{name}: {problems}");
            assert!(problems.to_string().contains(name), "{name}: {problems}");
        }
    }
}
