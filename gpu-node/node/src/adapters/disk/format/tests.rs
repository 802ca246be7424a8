use proptest::prelude::*;
use souk_models::adapter::pack;
use souk_protocol::peft::WeightsIntake;

use super::*;
use crate::adapters::samples::{self, SHAPE, adapter_files, base, weights};

/// An adapter with everything that a file can hold.
fn full() -> PackedAdapter {
    let pair = |seed: u64, width: usize, height: usize, slab_type| {
        let (a, b) = (samples::numbers(seed, 3 * width), samples::numbers(seed + 1, height * 3));
        LoraPair::pack(3, width, height, &a, &b, 0.5, slab_type).unwrap()
    };
    let mut adapter = PackedAdapter::empty(Digest::of(b"full"), SHAPE.num_layers);
    let (hidden, wide) = (SHAPE.hidden_size, SHAPE.intermediate_size);
    let first = &mut adapter.layers[0];
    first.q = Some(pair(1, hidden, SHAPE.query_size(), SlabType::F16));
    first.v =
        Some(pair(3, hidden, SHAPE.kv_size(), SlabType::Bf16).with_gain(samples::numbers(9, SHAPE.kv_size())).unwrap());
    first.ffn_norm = Some(samples::numbers(20, hidden));
    let last = &mut adapter.layers[1];
    last.o = Some(pair(5, SHAPE.query_size(), hidden, SlabType::Bf16));
    last.gate = Some(pair(7, hidden, wide, SlabType::Bf16));
    last.down = Some(pair(9, wide, hidden, SlabType::F16));
    last.attn_norm = Some(samples::numbers(21, hidden));
    adapter.lm_head = Some(pair(11, hidden, SHAPE.vocab_size, SlabType::F16));
    adapter.final_norm = Some(samples::numbers(22, hidden));
    adapter.invocation_tokens = vec![5, 1 << 20];
    adapter.size_bytes = adapter.measure_bytes();
    adapter
}

fn decode_of_base(file: &[u8], digest: &Digest) -> Result<PackedAdapter, FormatError> {
    decode(file, digest, &base().digest, &SHAPE)
}

/// Sets the checksum anew, so that what lies behind it is looked at.
fn seal(file: &mut [u8]) {
    let checksum = Digest::of(&file[HASHED_FROM..]);
    file[HASHED_FROM - 32..HASHED_FROM].copy_from_slice(checksum.as_bytes());
}

#[test]
fn an_adapter_comes_back_bit_for_bit() {
    let adapter = full();
    let file = encode(&adapter, &base().digest);
    let again = decode_of_base(&file, &adapter.digest).unwrap();
    assert_eq!((again.digest, again.size_bytes), (adapter.digest, adapter.size_bytes));
    assert_eq!(encode(&again, &base().digest), file);
    let (before, after) = (&adapter.layers[0].v, &again.layers[0].v);
    assert_eq!(before.as_ref().unwrap().gain(), after.as_ref().unwrap().gain());
    assert!(again.layers[0].k.is_none() && again.layers[1].q.is_none());
}

#[test]
fn what_was_packed_from_files_comes_back_as_well() {
    let files = adapter_files(3, &serde_json::json!({"use_rslora": true}));
    let mut intake = WeightsIntake::new();
    let plan = intake.push(&files.weights).and_then(|()| intake.finish(&files.config, &base())).unwrap();
    let data = &files.weights[usize::try_from(plan.data_start).unwrap()..];
    let adapter = pack(files.manifest.digest(), &plan, data, &weights()).unwrap();
    let file = encode(&adapter, &base().digest);
    let again = decode_of_base(&file, &adapter.digest).unwrap();
    let b = |adapter: &PackedAdapter| adapter.layers[1].v.as_ref().unwrap().b_f32();
    assert_eq!(b(&again), b(&adapter));
}

#[test]
fn what_is_for_another_adapter_or_base_or_damaged_is_refused_with_the_facts() {
    let adapter = full();
    let file = encode(&adapter, &base().digest);
    let other = Digest::of(b"other");
    let found = decode_of_base(&file, &other).unwrap_err();
    assert_eq!(found, FormatError::Other { what: "the adapter", expected: other, found: adapter.digest });
    assert!(
        matches!(decode(&file, &adapter.digest, &other, &SHAPE), Err(FormatError::Other { what, .. }) if what.contains("base"))
    );
    for at in [50, RECORDS_FROM + 3, file.len() - 1] {
        let mut file = file.clone();
        file[at] ^= 1;
        assert!(matches!(decode_of_base(&file, &adapter.digest), Err(FormatError::Damaged { .. })));
    }
    let mut older = file.clone();
    older[8] = 0;
    assert_eq!(decode_of_base(&older, &adapter.digest).err(), Some(FormatError::NotOurs));
}

#[test]
fn a_record_twice_and_a_layer_too_many_are_refused_behind_a_right_checksum() {
    let adapter = full();
    let mut file = encode(&adapter, &base().digest);
    let first: [u8; RECORD_BYTES] = file[RECORDS_FROM..][..RECORD_BYTES].try_into().unwrap();
    // The second record is v of layer 0 with a gain: q again has another size, k in its place fits nowhere.
    file[RECORDS_FROM + 4] = 2;
    seal(&mut file);
    assert_eq!(decode_of_base(&file, &adapter.digest).err(), Some(FormatError::Record(0)));

    let mut twice = PackedAdapter::empty(adapter.digest, SHAPE.num_layers);
    twice.layers[0].k = LoraPair::pack(1, 12, 8, &[0.0; 12], &[0.0; 8], 1.0, SlabType::F16).ok();
    twice.layers[0].v = LoraPair::pack(1, 12, 8, &[0.0; 12], &[0.0; 8], 1.0, SlabType::F16).ok();
    let mut file = encode(&twice, &base().digest);
    file[RECORDS_FROM + RECORD_BYTES] = 1;
    seal(&mut file);
    assert_eq!(decode_of_base(&file, &adapter.digest).err(), Some(FormatError::Record(1)));
    assert_eq!(first[0], 0);
}

proptest! {
    #[test]
    fn any_bytes_are_an_error_and_never_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode_of_base(&bytes, &Digest::of(b"full")).is_err());
    }

    #[test]
    fn a_sealed_file_with_any_changes_is_read_or_refused(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let adapter = full();
        let mut file = encode(&adapter, &base().digest);
        if let Some(cut) = cut {
            file.truncate(HASHED_FROM + cut.index(file.len() - HASHED_FROM));
        }
        // Half of the changes hit the records.
        for (at, (place, byte)) in changes.into_iter().enumerate() {
            let end = if at % 2 == 0 { file.len() } else { file.len().min(RECORDS_FROM + 9 * RECORD_BYTES) };
            let place = HASHED_FROM + place.index((end - HASHED_FROM).max(1));
            if let Some(old) = file.get_mut(place) {
                *old = byte;
            }
        }
        seal(&mut file);
        if let Ok(read) = decode_of_base(&file, &adapter.digest) {
            prop_assert_eq!(read.size_bytes, read.measure_bytes());
            prop_assert!(read.size_bytes <= file.len());
        }
    }
}

#[test]
fn any_bytes_of_a_packed_file_are_read_or_refused() {
    let digest = Digest::of(b"full");
    souk_testkit::fuzz("packed_adapter", |bytes| {
        // With a checksum that is right, so that what lies behind it is looked at; and for this base and digest.
        let mut file = bytes.to_vec();
        if let Some(ids) = file.get_mut(HASHED_FROM..HASHED_FROM + 64) {
            ids[..32].copy_from_slice(digest.as_bytes());
            ids[32..].copy_from_slice(base().digest.as_bytes());
            seal(&mut file);
        }
        match decode_of_base(&file, &digest) {
            Ok(adapter) => format!("{}", encode(&adapter, &base().digest) == file),
            Err(error) => error.to_string(),
        }
    });
}
