#!lua name=souk_limits_1

-- The store of limits in Redis 7.0 or later: each function is one step over the keys of one shard.
--
-- Keys, below the prefix of a shard and of the server's process (`souk:{l17}:<run>:`), all with a time to live:
--   clock             "<moment> <wall clock>": milliseconds since the shard began, and when that was last counted
--   s:<subject>       a level, packed: its buckets and its budgets
--   h:<id>            what is held for a request, packed; an id is `<tenant>/<request>`
--   leases            ids by the moment until which they are held
--   r:<id>            a repeat, packed; an id is `<tenant>/<digest>`
--   running           ids of repeats under way, by the moment until which they are
--   ended             ids of ended repeats, by the moment when they ended; beside it `ended_bytes`, with their sum as `sum`
-- KEYS[1] is the clock's. The others are made from it, since which they are is read on the way; all are in its slot.
--
-- Moments are the shard's own: a step back of the server's clock is no time, and a step ahead a minute at most.
-- What the numbers mean is said in src/port.rs and src/memory/, which do the same; a double holds all of them exactly.

local PARTS = 60000
local LEASE_MS = 15000
local IDLE_MS = 600000
local KEPT_FOR_MS = 86400000
-- Longest time between two steps that is counted.
local MAX_STEP_MS = 60000
-- What nobody comes back to is gone after so long: a level that holds nothing, and anything at all, which is longer than
-- a month and a day.
local LEVEL_TTL_MS = 86400000
local TTL_MS = 3456000000
-- Most leases that one step ends. What is left is held until the next.
local MAX_LAPSES = 1000
-- What an ended repeat takes beside its answer, in bytes, more or less.
local ENTRY_BYTES = 512

-- What is packed, and what is said in JSON, is a list, as flat as it can be: names and nested tables would take most of the time.
-- These are the places in them.
-- A level has a bucket for requests, for tokens of prompts and for those of answers, in this order, which are three numbers each; a
-- limit below 0 says that there is none. Behind them are budgets, each with its field, which is a period and a unit.
local LIMIT, MISSING, AT, BUCKET = 1, 2, 3, 3
local TOTAL, VERSION, KNOWN, HELD, TOUCHED, BUDGET, FIRST = 1, 2, 3, 4, 5, 6, 10
-- Amounts, by unit: requests, tokens of prompts, of answers, of training, and of prompts and answers together.
local INPUT, OUTPUT, TRAINING, TOKENS = 2, 3, 4, 5
-- What is held. Fields are in turns with their units. Of each that it took from a bucket there are four: the place of its subject
-- among the subjects, the unit, how much, and the limit.
local SUBJECTS, FIELDS, AMOUNTS, LOST_MS, TAKES, SETTLED, SHADOWED = 1, 2, 3, 4, 5, 6, 7
-- A request, each of its levels, each of their limits; the field is empty of rates:
local A_ID, A_AMOUNTS, A_LOST_MS, A_FIELDS, A_LEVELS = 1, 2, 3, 4, 5
local L_SUBJECT, L_LIMITS = 1, 2
local UNIT, VALUE, SHADOW, FIELD = 1, 2, 3, 4

local ROOM, REFUSES, UNKNOWN = 0, 1, 2
local TAKEN, REFUSED, TOTALS_UNKNOWN, GATHERING = 0, 1, 2, 3

-- Begins a step: counts the time that has passed.
local function open(keys)
    local prefix = string.sub(keys[1], 1, -6)
    local time = redis.call('TIME')
    local wall = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
    local now = 0
    local clock = redis.call('GET', keys[1])
    if clock then
        local counted, last = string.match(clock, '^(%d+) (%d+)$')
        now = tonumber(counted) + math.max(0, math.min(wall - tonumber(last), MAX_STEP_MS))
    end
    redis.call('SET', keys[1], string.format('%.0f %.0f', now, wall), 'PX', TTL_MS)
    return { prefix = prefix, now = now, levels = {}, changed = {} }
end

local function unpacked(packed)
    return packed and cmsgpack.unpack(packed) or { -1, 0, 0, -1, 0, 0, -1, 0, 0 }
end

-- Reads what is held under an id, if one is given, and levels, all at once.
local function read(store, id, subjects)
    local names, from = {}, 1
    if id then
        names[1], from = store.prefix .. 'h:' .. id, 2
    end
    for place, subject in ipairs(subjects) do names[from + place - 1] = store.prefix .. 's:' .. subject end
    if #names == 0 then return false end
    local packed = redis.call('MGET', unpack(names))
    for place, subject in ipairs(subjects) do
        -- One that was read before may have been changed since.
        store.levels[subject] = store.levels[subject] or unpacked(packed[from + place - 1])
    end
    return id and packed[1] and cmsgpack.unpack(packed[1])
end

local function level_of(store, subject)
    local level = store.levels[subject]
    if not level then
        level = unpacked(redis.call('GET', store.prefix .. 's:' .. subject))
        store.levels[subject] = level
    end
    return level
end

-- Writes the levels that a step has changed.
local function finish(store)
    for subject in pairs(store.changed) do
        local level, ttl = store.levels[subject], LEVEL_TTL_MS
        for at = FIRST, #level, BUDGET do
            if level[at + HELD] > 0 then ttl = TTL_MS end
        end
        redis.call('SET', store.prefix .. 's:' .. subject, cmsgpack.pack(level), 'PX', ttl)
    end
end

-- Parts of one limit as parts of another.
local function scaled(parts, to, from, round)
    if from == 0 then return to * PARTS end
    return math.min(round(parts / from * to), to * PARTS)
end

-- The parts that are missing now in the bucket of a unit, under a limit that may be another than when it was last taken from.
local function missing_of(store, level, unit, value)
    local bucket = (unit - 1) * BUCKET
    local limit, missing, at = level[bucket + LIMIT], level[bucket + MISSING], level[bucket + AT]
    if limit < 0 then limit, missing, at = value, value * PARTS, 0 end
    local passed = store.now - at
    if passed > PARTS then passed = PARTS end
    if passed > 0 then missing = missing - limit * passed end
    if missing < 0 then missing = 0 end
    if limit ~= value then return scaled(missing, value, limit, math.ceil) end
    return missing
end

-- Where the budget of a field is in a level, if it is there.
local function find_budget(level, field)
    for at = FIRST, #level, BUDGET do
        if level[at] == field then return at end
    end
end

-- The same; one that is not there is made, and what is idle makes room for it.
local function budget_of(store, level, field)
    local at = find_budget(level, field)
    if not at then
        local last = #level
        at = FIRST
        for from = FIRST, last, BUDGET do
            local idle = store.now - level[from + TOUCHED]
            if idle < IDLE_MS or (level[from + HELD] > 0 and idle < TTL_MS) then
                for part = 0, BUDGET - 1 do level[at + part] = level[from + part] end
                at = at + BUDGET
            end
        end
        for place = last, at, -1 do level[place] = nil end
        level[at] = field
        for part = 1, BUDGET - 1 do level[at + part] = 0 end
    end
    level[at + TOUCHED] = store.now
    return at
end

local function add_tokens(amounts)
    amounts[TOKENS] = amounts[INPUT] + amounts[OUTPUT]
    return amounts
end

local function costs(amounts)
    return amounts[TOKENS] > 0 or amounts[TRAINING] > 0
end

-- Adds to the budgets of all levels of what is held: the amounts of `more` without those of `less`.
local function move(store, holding, less, more)
    for _, subject in ipairs(holding[SUBJECTS]) do
        local level = level_of(store, subject)
        local fields = holding[FIELDS]
        for place = 1, #fields, 2 do
            local unit = fields[place + 1]
            local taken, added = less and less[unit] or 0, more and more[unit] or 0
            if taken > 0 or added > 0 then
                local at = budget_of(store, level, fields[place]) + HELD
                level[at] = math.max(0, level[at] - taken) + added
                store.changed[subject] = true
            end
        end
    end
end

local function holding_of(store, id)
    local packed = redis.call('GET', store.prefix .. 'h:' .. id)
    return packed and cmsgpack.unpack(packed)
end

local function keep(store, id, holding)
    local leases = store.prefix .. 'leases'
    local until_ms = store.now + (holding[SETTLED] and holding[LOST_MS] or LEASE_MS)
    redis.call('SET', store.prefix .. 'h:' .. id, cmsgpack.pack(holding), 'PX', TTL_MS)
    redis.call('ZADD', leases, string.format('%.0f', until_ms), id)
    redis.call('PEXPIRE', leases, TTL_MS)
end

local function drop(store, id)
    redis.call('DEL', store.prefix .. 'h:' .. id)
    redis.call('ZREM', store.prefix .. 'leases', id)
end

local function let_go(store, id)
    local holding = holding_of(store, id)
    if holding then move(store, holding, holding[AMOUNTS], nil) end
    drop(store, id)
end

-- Lets go of what nobody renews.
local function sweep(store)
    local leases = store.prefix .. 'leases'
    local due = redis.call('ZRANGEBYSCORE', leases, '-inf', string.format('%.0f', store.now), 'LIMIT', 0, MAX_LAPSES)
    for _, id in ipairs(due) do
        let_go(store, id)
    end
end

local function begin_step(keys)
    local store = open(keys)
    sweep(store)
    return store
end

-- What one limit says, and how it stands: of a rate what is left, when it is full and when there is room (-1: never), in
-- milliseconds; of a budget its total, what is held of it and whether the total is known.
local function judge(store, level, limit, asked)
    local field, value = limit[FIELD], limit[VALUE]
    if field ~= '' then
        local at = find_budget(level, field)
        if not at or level[at + KNOWN] == 0 then
            return { asked > 0 and UNKNOWN or ROOM, 0, 0, 0 }
        end
        local total, held = level[at + TOTAL], level[at + HELD]
        local has_room = asked == 0 or total + held + asked <= value
        return { has_room and ROOM or REFUSES, total, held, 1 }
    end
    local missing = missing_of(store, level, limit[UNIT], value)
    local left = math.floor((value * PARTS - missing) / PARTS)
    local full_in = missing > 0 and math.ceil(missing / value) or 0
    if asked > value then return { REFUSES, left, full_in, -1 } end
    local lacking = missing - (value - asked) * PARTS
    if asked == 0 or lacking <= 0 then return { ROOM, left, full_in, 0 } end
    return { REFUSES, left, full_in, math.ceil(lacking / value) }
end

-- What all limits of a request say, in order.
local function judge_all(store, ask)
    local said = { lines = {}, shadowed = {}, takes = {}, refuses = false, waits = false, has_budget = false }
    local place = 0
    for number, level in ipairs(ask[A_LEVELS]) do
        local known = level_of(store, level[L_SUBJECT])
        for _, limit in ipairs(level[L_LIMITS]) do
            local asked, is_shadow, is_budget = ask[A_AMOUNTS][limit[UNIT]], limit[SHADOW] == 1, limit[FIELD] ~= ''
            local line = judge(store, known, limit, asked)
            place = place + 1
            said.lines[place] = line
            if is_budget and asked > 0 and not is_shadow then said.has_budget = true end
            if line[1] == REFUSES and is_shadow then
                table.insert(said.shadowed, { place - 1, line[2], line[3], line[4] })
            elseif line[1] == REFUSES then
                said.refuses = true
            elseif line[1] == UNKNOWN then
                said.waits = said.waits or not is_shadow
            elseif not is_budget and asked > 0 then
                local takes, last = said.takes, #said.takes
                takes[last + 1], takes[last + 2], takes[last + 3], takes[last + 4] = number, limit[UNIT], asked, limit[VALUE]
            end
        end
    end
    return said
end

-- How all limits stand after what was taken, in the place of what they said before it; verdicts stay.
local function standings(store, ask, said)
    local place = 0
    for _, level in ipairs(ask[A_LEVELS]) do
        local known = level_of(store, level[L_SUBJECT])
        for _, limit in ipairs(level[L_LIMITS]) do
            place = place + 1
            local line = said.lines[place]
            if limit[FIELD] == '' then
                local missing = missing_of(store, known, limit[UNIT], limit[VALUE])
                line[2] = math.floor((limit[VALUE] * PARTS - missing) / PARTS)
                line[3] = missing > 0 and math.ceil(missing / limit[VALUE]) or 0
                line[4] = 0
            elseif line[4] == 1 then
                line[3] = known[find_budget(known, limit[FIELD]) + HELD]
            end
        end
    end
end

-- Takes from the buckets and holds of the budgets.
local function take(store, ask, subjects, said)
    local takes = said.takes
    for place = 1, #takes, 4 do
        local subject, unit, amount, value = subjects[takes[place]], takes[place + 1], takes[place + 2], takes[place + 3]
        local level, bucket = level_of(store, subject), (unit - 1) * BUCKET
        level[bucket + MISSING] = missing_of(store, level, unit, value) + amount * PARTS
        level[bucket + LIMIT], level[bucket + AT] = value, math.max(store.now, level[bucket + AT])
        store.changed[subject] = true
    end
    local amounts = ask[A_AMOUNTS]
    local holding = { subjects, ask[A_FIELDS], amounts, ask[A_LOST_MS], takes, false, said.shadowed }
    move(store, holding, nil, amounts)
    keep(store, ask[A_ID], holding)
    standings(store, ask, said)
end

-- ARGV[1]: the request, as JSON. Returns what came of it, a wait in milliseconds, the limits' lines and what was shadowed.
local function reserve(keys, args)
    local store = begin_step(keys)
    local ask = cjson.decode(args[1])
    local subjects = {}
    for place, level in ipairs(ask[A_LEVELS]) do subjects[place] = level[L_SUBJECT] end
    local known = read(store, ask[A_ID], subjects)
    add_tokens(ask[A_AMOUNTS])
    local said = judge_all(store, ask)
    local status, wait = TAKEN, 0
    if known then
        said.shadowed = known[SHADOWED]
        for _, line in ipairs(said.lines) do line[1] = ROOM end
    elseif said.has_budget and store.now < LEASE_MS then
        status, wait = GATHERING, LEASE_MS - store.now
    elseif said.waits then
        status = TOTALS_UNKNOWN
    elseif said.refuses then
        status = REFUSED
    else
        take(store, ask, subjects, said)
    end
    finish(store)
    return { status, wait, said.lines, said.shadowed }
end

-- ARGV: the id, and what was used as JSON.
local function settle(keys, args)
    local store = begin_step(keys)
    local id, used = args[1], cjson.decode(args[2])
    local holding = holding_of(store, id)
    if holding and not holding[SETTLED] then
        read(store, nil, holding[SUBJECTS])
        local reserved = holding[AMOUNTS]
        for unit, amount in ipairs(used) do used[unit] = math.min(amount, reserved[unit]) end
        add_tokens(used)
        local takes = holding[TAKES]
        for place = 1, #takes, 4 do
            local subject, unit, amount, value = holding[SUBJECTS][takes[place]], takes[place + 1], takes[place + 2], takes[place + 3]
            local level, bucket = level_of(store, subject), (unit - 1) * BUCKET
            local limit, back = level[bucket + LIMIT], (amount - used[unit]) * PARTS
            if limit >= 0 and back > 0 then
                if limit ~= value then back = scaled(back, limit, value, math.floor) end
                level[bucket + MISSING] = math.max(0, level[bucket + MISSING] - back)
                store.changed[subject] = true
            end
        end
        move(store, holding, reserved, used)
        holding[AMOUNTS], holding[TAKES], holding[SETTLED] = used, {}, true
        if costs(used) then keep(store, id, holding) else drop(store, id) end
    end
    finish(store)
    return 0
end

-- ARGV[1]: totals and ids of requests whose rows they count, as JSON. What comes before a lease has passed since the shard
-- began may have been on its way since before that.
local function count(keys, args)
    local store = begin_step(keys)
    local counted = cjson.decode(args[1])
    local was_read = #counted.written == 0 and store.now >= LEASE_MS
    for _, total in ipairs(counted.totals) do
        local level = level_of(store, total.subject)
        local at = budget_of(store, level, total.field)
        if total.version >= level[at + VERSION] then
            level[at + TOTAL], level[at + VERSION] = total.amount, total.version
        end
        if was_read then level[at + KNOWN] = 1 end
        store.changed[total.subject] = true
    end
    for _, id in ipairs(counted.written) do
        let_go(store, id)
    end
    finish(store)
    return 0
end

-- ARGV: ids. Returns the places, from 0, of those that nothing is held for.
local function renew(keys, args)
    local store = begin_step(keys)
    local leases, until_ms = store.prefix .. 'leases', string.format('%.0f', store.now + LEASE_MS)
    local unknown = {}
    for place, id in ipairs(args) do
        if redis.call('ZSCORE', leases, id) then
            -- What is settled is held for longer, and stays so.
            redis.call('ZADD', leases, 'XX', 'GT', until_ms, id)
        else
            table.insert(unknown, place - 1)
        end
    end
    finish(store)
    return unknown
end

-- ARGV[1]: what is held, as JSON.
local function restore(keys, args)
    local store = begin_step(keys)
    for _, held in ipairs(cjson.decode(args[1])) do
        local amounts = add_tokens(held.amounts)
        if not holding_of(store, held.id) and (costs(amounts) or not held.settled) then
            local holding = { held.subjects, held.fields, amounts, held.lost_ms, {}, held.settled, {} }
            move(store, holding, nil, amounts)
            keep(store, held.id, holding)
        end
    end
    finish(store)
    return 0
end

-- Begins the shard if it is new.
local function touch(keys)
    finish(begin_step(keys))
    return 0
end

-- Forgets the repeat that ended first.
local function forget_oldest(prefix)
    local id = redis.call('ZPOPMIN', prefix .. 'ended')[1]
    if not id then
        redis.call('DEL', prefix .. 'ended_bytes')
        return
    end
    local bytes = tonumber(redis.call('HGET', prefix .. 'ended_bytes', id) or 0)
    redis.call('HDEL', prefix .. 'ended_bytes', id)
    redis.call('HINCRBY', prefix .. 'ended_bytes', 'sum', -bytes)
    redis.call('DEL', prefix .. 'r:' .. id)
end

-- Begins a step on repeats: forgets what nobody renews, and what ended long ago.
local function open_repeats(keys)
    local store = open(keys)
    local running, now = store.prefix .. 'running', string.format('%.0f', store.now)
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', running, '-inf', now, 'LIMIT', 0, MAX_LAPSES)) do
        redis.call('DEL', store.prefix .. 'r:' .. id)
        redis.call('ZREM', running, id)
    end
    local ended = redis.call('ZCOUNT', store.prefix .. 'ended', '-inf', string.format('%.0f', store.now - KEPT_FOR_MS))
    for _ = 1, ended do
        forget_oldest(store.prefix)
    end
    return store
end

local function repeat_of(store, id)
    local packed = redis.call('GET', store.prefix .. 'r:' .. id)
    return packed and cmsgpack.unpack(packed)
end

local function run_until(store, id, flag)
    local running = store.prefix .. 'running'
    redis.call('ZADD', running, flag, string.format('%.0f', store.now + LEASE_MS), id)
    redis.call('PEXPIRE', running, TTL_MS)
end

-- ARGV: the id, the body's fingerprint, the request. Returns a word, and of what is known its request and answer.
local function begin(keys, args)
    local store = open_repeats(keys)
    local id, fingerprint, request = args[1], args[2], args[3]
    local known = repeat_of(store, id)
    if not known then
        local packed = cmsgpack.pack({ fingerprint = fingerprint, request = request })
        redis.call('SET', store.prefix .. 'r:' .. id, packed, 'PX', TTL_MS)
        run_until(store, id, 'GT')
        return { 'first' }
    end
    if known.fingerprint ~= fingerprint then return { 'mismatch' } end
    if known.ended and known.meta then return { 'ended', known.request, known.meta, known.body } end
    if known.ended then return { 'ended', known.request } end
    if known.request == request then return { 'first' } end
    return { 'running', known.request }
end

-- ARGV: ids and requests in turns.
local function renew_repeats(keys, args)
    local store = open_repeats(keys)
    for place = 1, #args, 2 do
        local known = repeat_of(store, args[place])
        if known and not known.ended and known.request == args[place + 1] then run_until(store, args[place], 'XX') end
    end
    return 0
end

-- ARGV: the id, the request, most bytes that ended ones of this shard may take, and the answer in two parts if it is kept.
local function end_repeat(keys, args)
    local store = open_repeats(keys)
    local id, known = args[1], repeat_of(store, args[1])
    if not known or known.ended or known.request ~= args[2] then return 0 end
    known.ended, known.meta, known.body = true, args[4], args[5]
    local bytes = ENTRY_BYTES + string.len(args[4] or '') + string.len(args[5] or '')
    redis.call('SET', store.prefix .. 'r:' .. id, cmsgpack.pack(known), 'PX', KEPT_FOR_MS)
    redis.call('ZREM', store.prefix .. 'running', id)
    redis.call('ZADD', store.prefix .. 'ended', string.format('%.0f', store.now), id)
    redis.call('HSET', store.prefix .. 'ended_bytes', id, bytes)
    local sum = redis.call('HINCRBY', store.prefix .. 'ended_bytes', 'sum', bytes)
    redis.call('PEXPIRE', store.prefix .. 'ended', TTL_MS)
    redis.call('PEXPIRE', store.prefix .. 'ended_bytes', TTL_MS)
    while sum > tonumber(args[3]) do
        forget_oldest(store.prefix)
        sum = tonumber(redis.call('HGET', store.prefix .. 'ended_bytes', 'sum') or 0)
    end
    return 0
end

-- ARGV: the id, the request.
local function forget_repeat(keys, args)
    local store = open_repeats(keys)
    local known = repeat_of(store, args[1])
    if known and not known.ended and known.request == args[2] then
        redis.call('DEL', store.prefix .. 'r:' .. args[1])
        redis.call('ZREM', store.prefix .. 'running', args[1])
    end
    return 0
end

-- Steps that let go of something run in a server that has no memory left, too.
local function register(name, callback, flags)
    redis.register_function({ function_name = 'souk_limits_1_' .. name, callback = callback, flags = flags })
end

register('touch', touch, {})
register('reserve', reserve, {})
register('settle', settle, { 'allow-oom' })
register('count', count, { 'allow-oom' })
register('renew', renew, { 'allow-oom' })
register('restore', restore, { 'allow-oom' })
register('begin', begin, {})
register('renew_repeats', renew_repeats, { 'allow-oom' })
register('end', end_repeat, {})
register('forget', forget_repeat, { 'allow-oom' })
