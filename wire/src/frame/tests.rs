use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use souk_protocol::{
    Digest, FinishReason, GatewayId, JobEvent, JobFailure, JobId, NodeId, PoolId, RequestId, TokenLogprobs, TokenOut,
    Usage,
};

use super::words::kind;
use super::*;

fn logprobs() -> impl Strategy<Value = TokenLogprobs> {
    let float = || -1e30f32..1e30;
    (float(), vec((any::<u32>(), float()), 0..6)).prop_map(|(logprob, top)| TokenLogprobs { logprob, top })
}

fn token() -> impl Strategy<Value = TokenOut> {
    (any::<u32>(), proptest::option::of(logprobs())).prop_map(|(id, logprobs)| TokenOut { id, logprobs })
}

fn usage() -> impl Strategy<Value = Usage> {
    (any::<u32>(), any::<u32>(), any::<u32>(), any::<bool>()).prop_map(
        |(prompt_tokens, cached_tokens, completion_tokens, prefill_began)| Usage {
            prompt_tokens,
            cached_tokens,
            completion_tokens,
            prefill_began,
        },
    )
}

fn failure() -> impl Strategy<Value = JobFailure> {
    prop_oneof![
        "\\PC{0,40}".prop_map(JobFailure::Adapter),
        any::<u32>().prop_map(|position| JobFailure::NotFinite { position }),
        ("\\PC{0,40}", any::<bool>()).prop_map(|(what, is_share)| JobFailure::Busy { what, is_share }),
        Just(JobFailure::DeadlineExceeded),
        ("\\PC{0,9}", any::<u64>(), any::<u64>()).prop_map(|(unit, needed, available)| JobFailure::TooLarge {
            unit,
            needed,
            available
        }),
    ]
}

fn event() -> impl Strategy<Value = JobEvent> {
    let reason = prop_oneof![Just(FinishReason::Stop), Just(FinishReason::Length), Just(FinishReason::Cancelled)];
    prop_oneof![
        Just(JobEvent::Started),
        vec(proptest::option::of(logprobs()), 0..9).prop_map(JobEvent::PromptLogprobs),
        (0u32..u32::MAX - 99, vec(token(), 0..9)).prop_map(|(offset, tokens)| JobEvent::Tokens { offset, tokens }),
        (reason, usage()).prop_map(|(reason, usage)| JobEvent::Finished { reason, usage }),
        failure().prop_map(JobEvent::Failed),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let saying = prop_oneof![
        ("\\PC{0,20}", any::<u32>(), any::<u32>()).prop_map(|(request, index, attempt)| Saying::Open {
            job: JobId { request: RequestId::from_stored(request), index },
            attempt,
        }),
        event().prop_map(Saying::Event),
        Just(Saying::HandOver),
        Just(Saying::Leave),
    ];
    (any::<u32>(), saying).prop_map(|(flow, saying)| Said { flow: FlowId(flow), saying })
}

fn from_node() -> impl Strategy<Value = FromNode> {
    prop_oneof![
        (any::<u16>(), "\\PC{0,20}", any::<[u8; 32]>(), any::<u64>()).prop_map(|(version, node, pool, stream)| {
            let (node, pool) = (NodeId::from_stored(node), PoolId(Digest::from_bytes(pool)));
            FromNode::Hello(NodeHello { version, node, pool, stream })
        }),
        Just(FromNode::Alive),
        vec(said(), 0..9).prop_map(FromNode::Step),
    ]
}

fn from_gateway() -> impl Strategy<Value = FromGateway> {
    let end = prop_oneof![Just(FlowEnd::Complete), Just(FlowEnd::Unwanted), Just(FlowEnd::TakenBack)];
    prop_oneof![
        (any::<u16>(), "\\PC{0,20}", any::<u32>()).prop_map(|(version, gateway, silence_ms)| {
            let (gateway, silence) = (GatewayId::from_stored(gateway), Duration::from_millis(silence_ms.into()));
            FromGateway::Hello(GatewayHello { version, gateway, silence })
        }),
        Just(FromGateway::Alive),
        vec((any::<u32>().prop_map(FlowId), end), 0..20).prop_map(FromGateway::Ends),
    ]
}

/// All frames of these bytes, given in pieces of these lengths.
fn cut(bytes: &[u8], pieces: &[usize]) -> Result<Vec<bytes::Bytes>, Malformed> {
    let (mut splitter, mut frames, mut left) = (Splitter::default(), Vec::new(), bytes);
    let mut lengths = pieces.iter().copied().cycle();
    while !left.is_empty() {
        let (piece, rest) = left.split_at(lengths.next().unwrap_or(left.len()).clamp(1, left.len()));
        left = rest;
        splitter.push(piece);
        while let Some(frame) = splitter.next_frame()? {
            frames.push(frame);
        }
        assert!(splitter.num_unread() <= MAX_FRAME_BYTES + 4 + piece.len());
    }
    Ok(frames)
}

proptest! {
    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut(
        sent in vec(from_node(), 0..6), pieces in vec(1usize..300, 1..6),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(FromNode::encode).collect();
        let read: Vec<_> = cut(&bytes, &pieces).unwrap().iter().map(|frame| FromNode::decode(frame).unwrap()).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_gateways_frames_come_out_as_they_went_in(
        sent in vec(from_gateway(), 0..6), pieces in vec(1usize..30, 1..6),
    ) {
        let bytes: Vec<u8> = sent.iter().flat_map(FromGateway::encode).collect();
        let read: Vec<_> =
            cut(&bytes, &pieces).unwrap().iter().map(|frame| FromGateway::decode(frame).unwrap()).collect();
        prop_assert_eq!(read, sent);
    }

    #[test]
    fn a_frame_that_is_cut_off_or_goes_on_is_refused(sent in from_node(), cut_by in 1usize..9) {
        let frame = sent.encode();
        let content = &frame[4..];
        let shorter = &content[..content.len().saturating_sub(cut_by)];
        // A step frame may be cut between two events, or read otherwise, but never as the same.
        if let Ok(read) = FromNode::decode(shorter) {
            prop_assert_ne!(&read, &sent);
        }
        if !matches!(sent, FromNode::Step(_)) {
            let longer = [content, &[0]].concat();
            prop_assert_eq!(FromNode::decode(&longer), Err(Malformed::Trailing(1)));
        }
    }
}

fn tokens(count: usize, num_top: usize) -> Vec<TokenOut> {
    let top = |id: u32| (0..num_top).map(|rank| (id + rank as u32, -(rank as f32))).collect();
    let logprobs = |id| Some(TokenLogprobs { logprob: -0.5, top: top(id) });
    (0..count as u32).map(|id| TokenOut { id, logprobs: logprobs(id) }).collect()
}

#[test]
fn a_long_event_becomes_several_of_which_each_fits_a_frame_and_together_they_say_the_same() {
    let all = tokens(3 * MAX_EVENT_TOKENS + 7, 255);
    let scores: Vec<_> = all.iter().map(|token| token.logprobs.clone()).collect();
    for event in [JobEvent::Tokens { offset: 5, tokens: all.clone() }, JobEvent::PromptLogprobs(scores.clone())] {
        let mut content = Vec::new();
        put_saying(&mut content, FlowId(1), &Saying::Event(event));
        assert!(content.len() > MAX_FRAME_BYTES);
        let mut read = Vec::new();
        let frame = [&[kind::STEP], &content[..]].concat();
        let FromNode::Step(said) = FromNode::decode(&frame).unwrap() else { panic!() };
        assert_eq!(said.len(), 4);
        for Said { saying, .. } in said {
            let mut alone = Vec::new();
            put_saying(&mut alone, FlowId(1), &saying);
            assert!(alone.len() + STEP_FRAME_BYTES < MAX_FRAME_BYTES, "{}", alone.len());
            match saying {
                Saying::Event(JobEvent::Tokens { offset, tokens }) => {
                    assert_eq!(offset as usize, 5 + read.len());
                    read.extend(tokens.into_iter().map(|token| token.logprobs));
                }
                Saying::Event(JobEvent::PromptLogprobs(scores)) => read.extend(scores),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(read, scores);
    }
}

#[test]
fn a_token_of_a_large_vocabulary_takes_four_bytes_at_most() {
    let tokens = (0..100).map(|id| TokenOut { id: 150_000 + id, logprobs: None }).collect();
    let mut content = Vec::new();
    put_saying(&mut content, FlowId(9), &Saying::Event(JobEvent::Tokens { offset: 0, tokens }));
    assert!(content.len() <= 4 + 300, "{}", content.len());
}

#[test]
fn a_failure_with_an_endless_reason_is_cut_and_still_read() {
    let event = JobEvent::Failed(JobFailure::Adapter("\u{1}é".repeat(MAX_FAILURE_BYTES)));
    let frame = FromNode::Step(vec![Said { flow: FlowId(1), saying: Saying::Event(event) }]).encode();
    let FromNode::Step(said) = FromNode::decode(&frame[4..]).unwrap() else { panic!() };
    let Saying::Event(JobEvent::Failed(JobFailure::Internal(told))) = &said[0].saying else { panic!("{said:?}") };
    assert!(told.contains("cannot be loaded") && told.len() > 1000);
}

#[test]
fn what_is_too_long_is_refused_before_it_is_kept() {
    let mut splitter = Splitter::default();
    splitter.push(&(MAX_FRAME_BYTES as u32 + 1).to_le_bytes());
    let told = splitter.next_frame().unwrap_err().to_string();
    assert_eq!(told, "a frame has 1048577 bytes or parts, and at most 1048576 are allowed");
    let many: Vec<u8> = [kind::STEP].into_iter().chain([1, 8].into_iter().cycle().take(2 * MAX_SAYINGS + 2)).collect();
    let told = FromNode::decode(&many).unwrap_err().to_string();
    assert_eq!(told, "a step frame has 65537 bytes or parts, and at most 65536 are allowed");
    let mut splitter = Splitter::default();
    splitter.push(&[0; 4]);
    assert_eq!(splitter.next_frame(), Err(Malformed::Cut("a frame's kind")));
}

#[test]
fn any_bytes_of_a_stream_are_frames_or_malformed() {
    souk_testkit::fuzz("token_frames", |bytes| {
        let frames = match cut(bytes, &[bytes.len().max(1)]) {
            Ok(frames) => frames,
            Err(error) => return error.to_string(),
        };
        let told = frames.iter().map(|frame| {
            let from_node = match FromNode::decode(frame) {
                Ok(FromNode::Step(said)) => format!("step of {}", said.first().map_or("nothing", |_| "something")),
                Ok(FromNode::Hello(_)) => "hello".to_owned(),
                Ok(FromNode::Alive) => "alive".to_owned(),
                Err(error) => error.to_string(),
            };
            let from_gateway = match FromGateway::decode(frame) {
                Ok(_) => "sound".to_owned(),
                Err(error) => error.to_string(),
            };
            format!("{from_node}; {from_gateway}")
        });
        told.collect()
    });
}
