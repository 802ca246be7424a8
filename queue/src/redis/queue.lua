#!lua name=souk_queue_1
-- The queue of one pool. Each function is one step over the keys of that pool, which are in one slot (souk:{q…}:…).
--
-- KEYS[1] is the pool's state; all other keys begin as it does. ARGV[1] is the settings as nine numbers in one text; what follows
-- is said at each function. Texts that name a lane begin with + before a node's name, and the lane of jobs without a preference
-- is -.
--
--   state    numbers of the pool, packed: see S_…
--   j:JOB    what is known of a job, packed: see R_…        b:JOB    the job as it was submitted, which nobody here looks into
--   r:JOB    tokens that its gateway handed in              a:JOB    what its settlement is written down with
--   q:L:LANE:TENANT  jobs that wait, by ticket              l:LANE   tenants of whom some wait there, by counter or less
--   w:LANE   jobs that wait there, by since when            lanes    lanes in which some wait, by since when the oldest does
--   lost     those of them that nobody minds, but for -     vtc      counters of tenants
--   waiting  counters of tenants of whom some wait          queued, running  how many of a tenant's jobs do
--   held:NODE  how many of a tenant's jobs it runs          refused  tenants that were refused, and when
--   due      when a lease ends or a waiting job is late     over     when a job that is over is forgotten
--   nodes    until when a node lives                        status   what it said
--   retired  nodes that take no more, and since when        gateways until when a gateway lives
--   n:GATEWAY  notices for it                               c:NODE   cancellations for it
--   boxes    when something was last put into those two
--   orders   orders, by number                              down     versions that were taken down, and by which order
--   drains   nodes that drain, and by which order          about    which version or node an order is about
--   dead     dead letters, by number                        d:JOB    one of them
--   unposted settlements that nobody has written down       posts    the same, by number
--   owns:GATEWAY  those of them that a gateway is to write down    owners   gateways that have any, and how many
--   adopted  those of them that another had before, and when they are given again
--   backlog  one entry for each job that began to wait, of which the group `nodes` has read as many as wait no more
--   bell:…   the last ring, with its number as id

-- Longest time that one step may count, so that a clock that is set ahead moves the queue by no more.
local MAX_STEP_MS = 2000
-- For how long keys are kept that nobody writes to.
local TTL_MS = 7 * 86400 * 1000
-- How often what is old is looked for.
local TIDY_EVERY_MS = 250
-- How often gateways are looked for that are gone.
local LOOK_FOR_LOST_MS = 1000
-- How often keys are told to live on.
local KEEP_EVERY_MS = 3600 * 1000
-- How long a gateway has to write down what another has left. Past it, it is given again, to whoever asks.
local WRITE_DOWN_MS = 30000
-- Most of one kind that one step lets happen by time alone.
local MOST_AT_ONCE = 256
-- Most lanes of others that one claim looks into, and most tenants with equal counters that it compares.
local MOST_LANES, MOST_TIES = 64, 64
local DEAD_LETTERS_KEPT = 1000
local ORDERS_KEPT = 10000
local UNPOSTED_KEPT = 65536
local RETIRED_KEPT_MS = 3600 * 1000
-- How long a refused tenant counts as waiting, and most that do.
local PATIENCE_MS, MOST_REFUSED = 3000, 1024
-- As good as no deadline, as the protocol says.
local NEVER_MS = 365 * 86400 * 1000
-- Counters that are kept of tenants of whom nobody waits.
local COUNTERS_KEPT = 256

-- Numbers of the pool.
local S_NOW, S_WALL, S_KEPT, S_TIDIED, S_RING, S_TICKET, S_FLOOR, S_CLAIMED, S_PACE = 1, 2, 3, 4, 5, 6, 7, 8, 9
local S_QUEUED, S_RUNNING, S_ORDER, S_PINNED, S_DEAD, S_POST, S_NOTE = 10, 11, 12, 13, 14, 15, 16
local STATE = '<dddddddddddddddd'

-- What is known of a job.
local R_PHASE, R_TENANT, R_LANE, R_GATEWAY, R_PRIORITY, R_PROMPT, R_DIGESTS, R_TICKET = 1, 2, 3, 4, 5, 6, 7, 8
local R_SINCE, R_DEADLINE, R_ATTEMPT, R_DELIVERIES, R_CHARGED, R_OUTPUT, R_SETTLED = 9, 10, 11, 12, 13, 14, 15
local R_NODE, R_CANCELLED, R_RESUMED, R_HAS_ACCOUNT = 16, 17, 18, 19
local QUEUED, RUNNING, OVER = 0, 1, 2

-- What the settings say, in the order of ARGV[1].
local C_PER_TENANT, C_QUEUED, C_IN_FLIGHT, C_LEASE, C_HEARTBEAT, C_STEAL, C_DELIVERIES, C_REMEMBER, C_PRICE = 1, 2, 3, 4, 5, 6, 7, 8, 9
local configs, num_configs = {}, 0

-- Looked up once, at the first step: a library that is being loaded does not see them.
local call, pack, read_packed, floor, min, max

local function config_of(text)
    local config = configs[text]
    if not config then
        if num_configs >= 64 then configs, num_configs = {}, 0 end
        config = {}
        for number in string.gmatch(text, '%S+') do config[#config + 1] = tonumber(number) end
        configs[text], num_configs = config, num_configs + 1
    end
    return config
end

local function key_of_queue(pool, lane, tenant)
    return pool.prefix .. 'q:' .. #lane .. ':' .. lane .. ':' .. tenant
end

-- Rings a bell, or all of a kind: whoever has looked before this number looks again.
local function ring(pool, bell)
    pool.rings[bell] = true
end

local function record_of(pool, job)
    local record = pool.records[job]
    if record == nil then
        local packed = call('GET', pool.prefix .. 'j:' .. job)
        record = packed and read_packed(packed) or false
        pool.records[job] = record
    end
    return record
end

local function save(pool, job, record)
    pool.records[job], pool.changed[job] = record, true
end

local function is_live(pool, node)
    local live = pool.live[node]
    if live == nil then
        local lapses = call('ZSCORE', pool.prefix .. 'nodes', node)
        live = lapses and tonumber(lapses) > pool.now or false
        pool.live[node] = live
    end
    return live
end

-- Counters.

local function counter(pool, tenant)
    local value = pool.counters[tenant]
    if not value then
        value = tonumber(call('ZSCORE', pool.prefix .. 'vtc', tenant) or pool.state[S_FLOOR])
        pool.counters[tenant] = value
    end
    return value
end

local function set_counter(pool, tenant, value)
    pool.counters[tenant] = value
    call('ZADD', pool.prefix .. 'vtc', value, tenant)
    call('ZADD', pool.prefix .. 'waiting', 'XX', value, tenant)
end

local function lowest_waiting(pool)
    local lowest = call('ZRANGE', pool.prefix .. 'waiting', 0, 0, 'WITHSCORES')
    return lowest[2] and tonumber(lowest[2])
end

local function arrive(pool, tenant)
    if call('HINCRBY', pool.prefix .. 'queued', tenant, 1) == 1 then
        local value = max(counter(pool, tenant), lowest_waiting(pool) or pool.state[S_FLOOR])
        call('ZADD', pool.prefix .. 'waiting', value, tenant)
        set_counter(pool, tenant, value)
    end
end

local function depart(pool, tenant)
    if call('HINCRBY', pool.prefix .. 'queued', tenant, -1) > 0 then return end
    local prefix, state = pool.prefix, pool.state
    call('HDEL', prefix .. 'queued', tenant)
    call('ZREM', prefix .. 'waiting', tenant)
    state[S_FLOOR] = max(state[S_FLOOR], lowest_waiting(pool) or counter(pool, tenant))
    -- What is no higher than the floor would be lifted to it anyway.
    if call('ZCARD', prefix .. 'vtc') > COUNTERS_KEPT + 2 * call('ZCARD', prefix .. 'waiting') then
        for _, other in ipairs(call('ZRANGEBYSCORE', prefix .. 'vtc', '-inf', state[S_FLOOR], 'LIMIT', 0, MOST_AT_ONCE)) do
            if not call('ZSCORE', prefix .. 'waiting', other) then call('ZREM', prefix .. 'vtc', other) end
        end
    end
end

local function charge(pool, tenant, cost)
    if cost > 0 then set_counter(pool, tenant, counter(pool, tenant) + cost) end
end

local function price(record, tokens)
    return tokens * 100 / record[R_PRIORITY]
end

local function charge_output(pool, record, tokens)
    local new = tokens - record[R_OUTPUT]
    if new > 0 then
        record[R_OUTPUT] = tokens
        charge(pool, record[R_TENANT], price(record, new * pool.config[C_PRICE]))
    end
end

-- Mailboxes and settlements.

-- Puts a note into a mailbox, with its number and when that was.
local function post(pool, box, note)
    local name, state = pool.prefix .. box, pool.state
    state[S_NOTE] = state[S_NOTE] + 1
    call('RPUSH', name, pack({ state[S_NOTE], pool.now, note }))
    call('PEXPIRE', name, TTL_MS)
    call('ZADD', pool.prefix .. 'boxes', pool.now, box)
    ring(pool, box)
end

local function notify(pool, gateway, note)
    post(pool, 'n:' .. gateway, note)
end

-- Gives a settlement to a gateway to write it down, instead of whoever had it before.
local function own(pool, gateway, job, before)
    local prefix = pool.prefix
    if before then
        call('ZREM', prefix .. 'owns:' .. before, job)
        if call('HINCRBY', prefix .. 'owners', before, -1) <= 0 then call('HDEL', prefix .. 'owners', before) end
    end
    if gateway then
        call('ZADD', prefix .. 'owns:' .. gateway, pool.now, job)
        call('PEXPIRE', prefix .. 'owns:' .. gateway, TTL_MS)
        call('HINCRBY', prefix .. 'owners', gateway, 1)
    end
end

local function forget_unposted(pool, job)
    local packed = call('HGET', pool.prefix .. 'unposted', job)
    if not packed then return end
    local unposted = read_packed(packed)
    own(pool, nil, job, unposted[1])
    call('HDEL', pool.prefix .. 'unposted', job)
    call('ZREM', pool.prefix .. 'posts', job)
    call('ZREM', pool.prefix .. 'adopted', job)
end

local function keep_unposted(pool, job, gateway, settled)
    local prefix, state = pool.prefix, pool.state
    local account = call('GET', prefix .. 'a:' .. job)
    call('DEL', prefix .. 'a:' .. job)
    if not account then return end
    state[S_POST] = state[S_POST] + 1
    call('HSET', prefix .. 'unposted', job, pack({ gateway, account, settled }))
    call('ZADD', prefix .. 'posts', state[S_POST], job)
    own(pool, gateway, job)
    if call('ZCARD', prefix .. 'posts') > UNPOSTED_KEPT then
        forget_unposted(pool, call('ZRANGE', prefix .. 'posts', 0, 0)[1])
    end
end

-- The one place where a job ends. `settled` is how, without the number of attempts: outcome, four counts, what is untold and why.
local function finish(pool, job, record, settled)
    local prefix = pool.prefix
    record[R_PHASE], record[R_NODE] = OVER, false
    save(pool, job, record)
    call('ZREM', prefix .. 'due', job)
    call('ZADD', prefix .. 'over', pool.now + pool.config[C_REMEMBER], job)
    call('DEL', prefix .. 'b:' .. job, prefix .. 'r:' .. job)
    if record[R_SETTLED] then return end
    record[R_SETTLED] = true
    local note = { job, 1, record[R_ATTEMPT], unpack(settled) }
    if record[R_HAS_ACCOUNT] then
        keep_unposted(pool, job, record[R_GATEWAY], { record[R_ATTEMPT], unpack(settled) })
        note[2] = 2
    end
    notify(pool, record[R_GATEWAY], note)
end

-- How an end of ours or of the deadline's looks to a caller who was handed so many tokens.
local AFTER = { deadline = 'timed_out', timed_out = 'timed_out', failed = 'failed', broken = 'failed' }
local AFTER_SOME = { deadline = 'deadline', timed_out = 'deadline', failed = 'broken', broken = 'broken' }

-- Ends a job of which no node says how it ended.
local function finish_unsaid(pool, job, record, outcome, untold, reason)
    local output = record[R_OUTPUT]
    outcome = (output > 0 and AFTER_SOME or AFTER)[outcome] or outcome
    finish(pool, job, record, { outcome, record[R_PROMPT], 0, output, output > 0 and 1 or 0, untold, reason or '' })
end

-- Lanes.

local function is_taken_down(pool, record)
    for _, digest in ipairs(record[R_DIGESTS]) do
        if call('HEXISTS', pool.prefix .. 'down', digest) == 1 then return true end
    end
    return false
end

local function ring_lane(pool, lane)
    if lane == '-' or not is_live(pool, string.sub(lane, 2)) then
        ring(pool, 'work')
    else
        ring(pool, 'w:' .. string.sub(lane, 2))
    end
end

-- Puts a job that is on record into its lane; ends it if it must not run any more.
local function enqueue(pool, job, record)
    if is_taken_down(pool, record) then return finish_unsaid(pool, job, record, 'taken_down', 'taken_down') end
    local prefix, lane, tenant, now = pool.prefix, record[R_LANE], record[R_TENANT], pool.now
    arrive(pool, tenant)
    local queue = key_of_queue(pool, lane, tenant)
    call('ZADD', queue, record[R_TICKET], job)
    if call('ZADD', prefix .. 'l:' .. lane, 'NX', counter(pool, tenant), tenant) == 1 then
        for _, name in ipairs({ queue, prefix .. 'l:' .. lane, prefix .. 'w:' .. lane }) do call('PEXPIRE', name, TTL_MS) end
    end
    call('ZADD', prefix .. 'w:' .. lane, now, job)
    if call('ZADD', prefix .. 'lanes', 'NX', now, lane) == 1 and lane ~= '-' and not is_live(pool, string.sub(lane, 2)) then
        call('ZADD', prefix .. 'lost', now, lane)
    end
    record[R_PHASE], record[R_SINCE], record[R_NODE], record[R_CANCELLED] = QUEUED, now, false, false
    save(pool, job, record)
    if record[R_DEADLINE] then
        call('ZADD', prefix .. 'due', record[R_DEADLINE], job)
    else
        call('ZREM', prefix .. 'due', job)
    end
    pool.state[S_QUEUED] = pool.state[S_QUEUED] + 1
    call('XADD', prefix .. 'backlog', '*', 'j', '')
    ring_lane(pool, lane)
end

-- Takes a waiting job out of its lane. Its phase is the caller's to set.
local function dequeue(pool, job, record)
    local prefix, lane, tenant = pool.prefix, record[R_LANE], record[R_TENANT]
    local queue = key_of_queue(pool, lane, tenant)
    call('ZREM', queue, job)
    if call('ZCARD', queue) == 0 then call('ZREM', prefix .. 'l:' .. lane, tenant) end
    call('ZREM', prefix .. 'w:' .. lane, job)
    local oldest = call('ZRANGE', prefix .. 'w:' .. lane, 0, 0, 'WITHSCORES')
    if oldest[2] then
        call('ZADD', prefix .. 'lanes', oldest[2], lane)
    else
        call('ZREM', prefix .. 'lanes', lane)
        call('ZREM', prefix .. 'lost', lane)
    end
    depart(pool, tenant)
    pool.state[S_QUEUED] = pool.state[S_QUEUED] - 1
    pool.taken = pool.taken + 1
end

local function new_backlog(pool)
    call('DEL', pool.prefix .. 'backlog')
    call('XGROUP', 'CREATE', pool.prefix .. 'backlog', 'nodes', 0, 'MKSTREAM', 'ENTRIESREAD', 0)
    for _ = 1, pool.state[S_QUEUED] do call('XADD', pool.prefix .. 'backlog', '*', 'j', '') end
end

-- Reads as many entries of the backlog as jobs wait no more, and drops what was read.
local function read_backlog(pool)
    local name = pool.prefix .. 'backlog'
    local read = redis.pcall('XREADGROUP', 'GROUP', 'nodes', 'queue', 'COUNT', pool.taken, 'NOACK', 'STREAMS', name, '>')
    if read and read.err then return new_backlog(pool) end
    local entries = read and read[1] and read[1][2] or {}
    local last = entries[#entries]
    if not last then return end
    -- Entries that were read are all that is dropped: another would leave the lag unknown.
    call('XTRIM', name, 'MINID', last[1])
    call('XDEL', name, last[1])
end

-- Who runs what.

local function stop_running(pool, job, record)
    local prefix, tenant = pool.prefix, record[R_TENANT]
    if call('HINCRBY', prefix .. 'running', tenant, -1) <= 0 then call('HDEL', prefix .. 'running', tenant) end
    local held = prefix .. 'held:' .. record[R_NODE]
    if call('HINCRBY', held, tenant, -1) <= 0 then call('HDEL', held, tenant) end
    pool.state[S_RUNNING] = pool.state[S_RUNNING] - 1
end

local function bury(pool, job, record, reason)
    local prefix, state = pool.prefix, pool.state
    state[S_DEAD] = state[S_DEAD] + 1
    local body, resumed = call('GET', prefix .. 'b:' .. job), call('GET', prefix .. 'r:' .. job)
    call('SET', prefix .. 'd:' .. job, pack({ record, body, resumed, record[R_DELIVERIES], reason }), 'PX', TTL_MS)
    call('ZADD', prefix .. 'dead', state[S_DEAD], job)
    if call('ZCARD', prefix .. 'dead') > DEAD_LETTERS_KEPT then
        call('DEL', prefix .. 'd:' .. call('ZPOPMIN', prefix .. 'dead')[1])
    end
end

-- Queues a job again whose attempt is over, or ends it if it was cancelled, is too late or was delivered too often. A reason
-- means that the attempt failed; without one it had not begun, and does not count.
local function end_attempt(pool, job, record, reason)
    stop_running(pool, job, record)
    if record[R_CANCELLED] then return finish_unsaid(pool, job, record, 'caller_left', 'shutting_down') end
    if record[R_DEADLINE] and record[R_DEADLINE] <= pool.now then
        return finish_unsaid(pool, job, record, 'deadline', 'deadline')
    end
    if is_taken_down(pool, record) then return finish_unsaid(pool, job, record, 'taken_down', 'taken_down') end
    if not reason then
        record[R_DELIVERIES] = record[R_DELIVERIES] - 1
    elseif record[R_DELIVERIES] >= pool.config[C_DELIVERIES] then
        bury(pool, job, record, reason)
        return finish_unsaid(pool, job, record, 'failed', 'dead_letter', reason)
    end
    -- Whoever comes first takes it: the lane's own node has just failed it.
    record[R_LANE] = '-'
    enqueue(pool, job, record)
    notify(pool, record[R_GATEWAY], { job, 0 })
end

-- What time does.

local function lose_lane(pool, node)
    pool.live[node] = false
    local oldest = call('ZSCORE', pool.prefix .. 'lanes', '+' .. node)
    if oldest then call('ZADD', pool.prefix .. 'lost', oldest, '+' .. node) end
    ring(pool, 'work')
end

local function sweep(pool)
    local prefix, now = pool.prefix, pool.now
    for _, node in ipairs(call('ZRANGEBYSCORE', prefix .. 'nodes', '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)) do
        call('ZREM', prefix .. 'nodes', node)
        call('HDEL', prefix .. 'status', node)
        lose_lane(pool, node)
    end
    for _, job in ipairs(call('ZRANGEBYSCORE', prefix .. 'due', '-inf', now, 'LIMIT', 0, MOST_AT_ONCE)) do
        local record = record_of(pool, job)
        if not record or record[R_PHASE] == OVER then
            call('ZREM', prefix .. 'due', job)
        elseif record[R_PHASE] == QUEUED then
            dequeue(pool, job, record)
            finish_unsaid(pool, job, record, 'deadline', 'deadline')
        else
            end_attempt(pool, job, record, 'its node was lost: the lease expired')
        end
    end
end

-- Drops what is old.
local function tidy(pool)
    local prefix, now, remember = pool.prefix, pool.now, pool.config[C_REMEMBER]
    for _, job in ipairs(call('ZRANGEBYSCORE', prefix .. 'over', '-inf', now, 'LIMIT', 0, 2 * MOST_AT_ONCE)) do
        call('ZREM', prefix .. 'over', job)
        local record = record_of(pool, job)
        -- A dead letter that was replayed waits or runs again.
        if record and record[R_PHASE] == OVER then
            call('DEL', prefix .. 'j:' .. job)
            pool.records[job], pool.changed[job] = false, nil
        end
    end
    for _, box in ipairs(call('ZRANGEBYSCORE', prefix .. 'boxes', '-inf', '(' .. (now - remember), 'LIMIT', 0, MOST_AT_ONCE)) do
        call('DEL', prefix .. box)
        call('ZREM', prefix .. 'boxes', box)
    end
    call('ZREMRANGEBYSCORE', prefix .. 'gateways', '-inf', now)
    call('ZREMRANGEBYSCORE', prefix .. 'refused', '-inf', now - PATIENCE_MS)
    call('ZREMRANGEBYSCORE', prefix .. 'retired', '-inf', now - RETIRED_KEPT_MS)
end

local KEPT = { 'lanes', 'lost', 'vtc', 'waiting', 'queued', 'running', 'refused', 'due', 'over', 'nodes', 'status', 'retired',
    'gateways', 'boxes', 'orders', 'down', 'drains', 'about', 'dead', 'unposted', 'posts', 'owners', 'adopted', 'backlog' }

-- The numbers of a pool that is new. Rings begin where no ring of an earlier life has come, but for a clock that was set back.
local function new_state(pool, wall)
    local state = {}
    for place = 1, S_NOTE do state[place] = 0 end
    -- So that no reader takes what is new for what it has had already.
    state[S_NOTE] = wall * 100
    state[S_RING], state[S_TIDIED], state[S_CLAIMED] = wall * 100, -TIDY_EVERY_MS, -1
    return state
end

-- Begins a step: counts the time that has passed, and lets everything happen that fell due.
local function begin(keys, args)
    if not call then
        call, pack, read_packed = redis.call, cmsgpack.pack, cmsgpack.unpack
        floor, min, max = math.floor, math.min, math.max
    end
    local time = call('TIME')
    local wall = time[1] * 1000 + floor(time[2] / 1000)
    local pool = { key = keys[1], prefix = string.sub(keys[1], 1, -6), config = config_of(args[1]), rings = {}, records = {},
        changed = {}, live = {}, counters = {}, taken = 0 }
    local packed = call('GET', keys[1])
    local state = packed and { struct.unpack(STATE, packed) } or new_state(pool, wall)
    pool.state = state
    if not packed then new_backlog(pool) end
    local before = state[S_NOW]
    if packed then state[S_NOW] = before + max(0, min(wall - state[S_WALL], MAX_STEP_MS)) end
    state[S_WALL], pool.now = wall, state[S_NOW]
    sweep(pool)
    if pool.now - state[S_TIDIED] >= TIDY_EVERY_MS then
        state[S_TIDIED] = pool.now
        tidy(pool)
    end
    -- Nodes with nothing to do hear of lanes that have fallen behind since the last step.
    local steal = pool.config[C_STEAL]
    if call('ZCOUNT', pool.prefix .. 'lanes', '(' .. (before - steal), pool.now - steal) > 0 then ring(pool, 'work') end
    return pool
end

-- Ends a step: writes what has changed and rings the bells.
local function finish_step(pool)
    local prefix, state = pool.prefix, pool.state
    for job in pairs(pool.changed) do
        call('SET', prefix .. 'j:' .. job, pack(pool.records[job]), 'PX', TTL_MS)
    end
    if pool.taken > 0 then read_backlog(pool) end
    for bell in pairs(pool.rings) do
        state[S_RING] = state[S_RING] + 1
        local name = prefix .. 'bell:' .. bell
        local id = string.format('%.0f-1', state[S_RING])
        -- A bell of an earlier life may have rung with a higher number.
        local rung = redis.pcall('XADD', name, 'MAXLEN', 1, id, 'r', '')
        if type(rung) == 'table' and rung.err then
            call('DEL', name)
            call('XADD', name, 'MAXLEN', 1, id, 'r', '')
        end
        call('PEXPIRE', name, TTL_MS)
    end
    -- A wall clock that was set is another reason to keep everything anew.
    local keeps = math.abs(state[S_WALL] - state[S_KEPT]) > KEEP_EVERY_MS
    if keeps then state[S_KEPT] = state[S_WALL] end
    call('SET', pool.key, struct.pack(STATE, unpack(state)), 'PX', TTL_MS)
    if keeps then
        for _, name in ipairs(KEPT) do call('PEXPIRE', prefix .. name, TTL_MS) end
    end
end

-- Submitting.

-- How many tenants have jobs that wait or were refused lately, but for one.
local function num_others(pool, tenant)
    local prefix = pool.prefix
    local refused = call('ZRANGEBYSCORE', prefix .. 'refused', '(' .. (pool.now - PATIENCE_MS - 1), '+inf')
    local others, num = 0, 0
    for _, other in ipairs(refused) do
        if other ~= tenant then
            num = num + 1
            if call('HEXISTS', prefix .. 'queued', other) == 0 then others = others + 1 end
        end
    end
    if num == 0 then return 0 end
    others = others + call('HLEN', prefix .. 'queued') - call('HEXISTS', prefix .. 'queued', tenant)
    return others
end

-- Which cap has no place for a job of the tenant: scope, limit and count. Nil where there is one. The rules are those of the
-- protocol's gate with an eighth kept.
local function refusal(pool, tenant)
    local config, used = pool.config, pool.state[S_QUEUED]
    local held = tonumber(call('HGET', pool.prefix .. 'queued', tenant) or 0)
    local limit = config[C_IN_FLIGHT]
    if limit >= 0 then
        local in_flight = held + tonumber(call('HGET', pool.prefix .. 'running', tenant) or 0)
        if in_flight >= limit then return { 'in_flight', limit, in_flight } end
    end
    local total, most = config[C_QUEUED], config[C_PER_TENANT]
    local reserve = total > 1 and max(1, floor(total / 8)) or 0
    local room = held + 1 <= 1 and total or max(0, total - reserve)
    local others = num_others(pool, tenant)
    local share = others == 0 and room or floor(room / (1 + others))
    share = max(min(share, most, room), min(1, most))
    local scope
    if held + 1 > share then
        scope = share >= room and 'pool' or 'tenant'
    elseif used + 1 > room then
        scope = 'pool'
    else
        call('ZREM', pool.prefix .. 'refused', tenant)
        return nil
    end
    if call('ZSCORE', pool.prefix .. 'refused', tenant) or call('ZCARD', pool.prefix .. 'refused') < MOST_REFUSED then
        call('ZADD', pool.prefix .. 'refused', pool.now, tenant)
    end
    if scope == 'tenant' then return { scope, share, held } end
    return { scope, room, used }
end

local STATES = { [QUEUED] = 'queued', [RUNNING] = 'running', [OVER] = 'over' }

-- ARGV: job, tenant, lane, gateway, priority, number of prompt tokens, milliseconds that are left or -1, attempts before, the
-- body, the account or nothing, digests. Returns a word; what is full: also a scope, a limit, a count and the pace in microseconds per claim.
local function submit(keys, args)
    local pool = begin(keys, args)
    local job, tenant, left = args[2], args[3], tonumber(args[8])
    local prefix, known = pool.prefix, record_of(pool, job)
    local said
    if known then
        said = { STATES[known[R_PHASE]] }
    else
        local full = refusal(pool, tenant)
        if full then
            said = { 'full', full[1], full[2], full[3], floor(pool.state[S_PACE] * 1000) }
        else
            local digests = {}
            for place = 12, #args do digests[#digests + 1] = args[place] end
            local deadline = left >= 0 and pool.now + min(left, NEVER_MS)
            local record = { QUEUED, tenant, args[4], args[5], tonumber(args[6]), tonumber(args[7]), digests,
                pool.state[S_TICKET], pool.now, deadline, tonumber(args[9]), 0, false, 0, false, false, false, 0, args[11] ~= '' }
            pool.state[S_TICKET] = pool.state[S_TICKET] + 1
            call('SET', prefix .. 'b:' .. job, args[10], 'PX', TTL_MS)
            if args[11] ~= '' then call('SET', prefix .. 'a:' .. job, args[11], 'PX', TTL_MS) end
            enqueue(pool, job, record)
            said = { 'new' }
        end
    end
    finish_step(pool)
    return said
end

-- Claiming.

-- Lanes of others that are behind: the oldest job there has waited for long.
local function lanes_behind(pool, node)
    local latest = pool.now - pool.config[C_STEAL]
    local lanes = call('ZRANGEBYSCORE', pool.prefix .. 'lanes', '-inf', latest, 'LIMIT', 0, MOST_LANES)
    local far = {}
    for _, lane in ipairs(lanes) do
        if lane ~= '-' and lane ~= '+' .. node and is_live(pool, string.sub(lane, 2)) then far[#far + 1] = lane end
    end
    return far
end

-- The node's own lane and those that nobody minds.
local function lanes_near(pool, node)
    local near = { '+' .. node, '-' }
    for _, lane in ipairs(call('ZRANGE', pool.prefix .. 'lost', 0, MOST_LANES - 1)) do
        if lane ~= near[1] then near[#near + 1] = lane end
    end
    return near
end

-- The best of a lane: the oldest job of the tenant with the lowest counter among those that may be served, if that comes before
-- `best`. A lane's order is by counters as they were or lower, since counters only grow; what is found to have grown is noted.
local function lowest_of_lane(pool, lane, holds, best)
    local name, at, ties, stale = pool.prefix .. 'l:' .. lane, 0, 0, {}
    local done = false
    while not done do
        local some = call('ZRANGE', name, at, at + 15, 'WITHSCORES')
        for place = 1, #some, 2 do
            local tenant, known = some[place], tonumber(some[place + 1])
            if best and (known > best[1] or ties >= MOST_TIES) then
                done = true
                break
            end
            local value = counter(pool, tenant)
            if value > known then stale[#stale + 1] = tenant end
            if not (holds and holds[tenant]) and (not best or value <= best[1]) then
                local head = call('ZRANGE', key_of_queue(pool, lane, tenant), 0, 0, 'WITHSCORES')
                local ticket = tonumber(head[2])
                if head[1] and (not best or value < best[1] or ticket < best[2]) then best = { value, ticket, head[1] } end
                ties = ties + 1
            end
        end
        at = at + 16
        done = done or #some < 32
    end
    for _, tenant in ipairs(stale) do call('ZADD', name, 'XX', counter(pool, tenant), tenant) end
    return best
end

local function lowest(pool, lanes, holds)
    local best
    for _, lane in ipairs(lanes) do best = lowest_of_lane(pool, lane, holds, best) end
    return best and best[3]
end

local function held_by(pool, node)
    local holds, all = {}, call('HKEYS', pool.prefix .. 'held:' .. node)
    for _, tenant in ipairs(all) do holds[tenant] = true end
    return holds
end

-- The job that the node should take next, of anyone or of tenants of whom it holds none.
local function pick(pool, node, holds)
    return lowest(pool, lanes_near(pool, node), holds) or lowest(pool, lanes_behind(pool, node), holds)
end

local function note_pace(pool)
    local state = pool.state
    if state[S_CLAIMED] >= 0 then
        state[S_PACE] = state[S_PACE] + 0.1 * (min(pool.now - state[S_CLAIMED], 60000) - state[S_PACE])
    end
    state[S_CLAIMED] = pool.now
end

-- Hands a job over: its name, attempt, milliseconds that are left or -1, those that it waited, its body and what was handed in.
local function deliver(pool, job, node)
    local prefix, record, now = pool.prefix, record_of(pool, job), pool.now
    dequeue(pool, job, record)
    record[R_ATTEMPT], record[R_DELIVERIES] = record[R_ATTEMPT] + 1, record[R_DELIVERIES] + 1
    local tenant, waited = record[R_TENANT], now - record[R_SINCE]
    -- Once for each job: a tenant does not pay for a node that was lost.
    if not record[R_CHARGED] then
        record[R_CHARGED] = true
        charge(pool, tenant, price(record, record[R_PROMPT]))
    end
    record[R_PHASE], record[R_NODE], record[R_CANCELLED] = RUNNING, node, false
    save(pool, job, record)
    call('ZADD', prefix .. 'due', now + pool.config[C_LEASE], job)
    call('HINCRBY', prefix .. 'running', tenant, 1)
    call('HINCRBY', prefix .. 'held:' .. node, tenant, 1)
    pool.state[S_RUNNING] = pool.state[S_RUNNING] + 1
    note_pace(pool)
    local left = record[R_DEADLINE] and max(0, record[R_DEADLINE] - now) or -1
    local resumed = record[R_RESUMED] > 0 and call('GET', prefix .. 'r:' .. job) or ''
    return { job, record[R_ATTEMPT], left, waited, call('GET', prefix .. 'b:' .. job), resumed }
end

-- ARGV: node, most jobs, most of tenants of whom it holds none. Returns what is handed over.
local function claim(keys, args)
    local pool = begin(keys, args)
    local node, jobs, newcomers = args[2], tonumber(args[3]), tonumber(args[4])
    local deliveries = {}
    while jobs > 0 do
        local job = pick(pool, node)
        if not job then break end
        deliveries[#deliveries + 1] = deliver(pool, job, node)
        jobs = jobs - 1
    end
    if newcomers > 0 then
        local holds = held_by(pool, node)
        while newcomers > 0 do
            local job = pick(pool, node, holds)
            if not job then break end
            deliveries[#deliveries + 1] = deliver(pool, job, node)
            holds[record_of(pool, job)[R_TENANT]] = true
            newcomers = newcomers - 1
        end
    end
    if #deliveries > 0 then call('PEXPIRE', pool.prefix .. 'held:' .. node, TTL_MS) end
    finish_step(pool)
    return deliveries
end

-- Milliseconds until time alone may change what somebody who waits would see, or -1.
local function next_change(pool, node)
    local prefix, now, change = pool.prefix, pool.now, math.huge
    local function at(moment)
        if moment > now then change = min(change, moment - now) end
    end
    local due = call('ZRANGE', prefix .. 'due', 0, 0, 'WITHSCORES')
    if due[2] then at(tonumber(due[2])) end
    if node and call('ZCARD', prefix .. 'lanes') > 0 then
        local from = '(' .. (now - pool.config[C_STEAL])
        local next = call('ZRANGEBYSCORE', prefix .. 'lanes', from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
        if next[2] then at(tonumber(next[2]) + pool.config[C_STEAL]) end
        local lapse = call('ZRANGE', prefix .. 'nodes', 0, 0, 'WITHSCORES')
        if lapse[2] then at(tonumber(lapse[2])) end
    end
    return change < math.huge and change or -1
end

-- What every look answers: the number of the last ring, in how many milliseconds to look again or -1, and what was found.
local function looked(pool, change, found)
    finish_step(pool)
    return { string.format('%.0f', pool.state[S_RING]), change, found }
end

-- ARGV: as for a claim. Finds 1 where it would find work.
local function look_work(keys, args)
    local pool = begin(keys, args)
    local node, jobs, newcomers = args[2], tonumber(args[3]), tonumber(args[4])
    local found = jobs > 0 and pick(pool, node) or newcomers > 0 and pick(pool, node, held_by(pool, node))
    return looked(pool, next_change(pool, node), found and { 1 } or {})
end

-- ARGV: node, most jobs. Returns the bodies of those whose turn is next, in lanes that are not of others.
local function peek(keys, args)
    local pool = begin(keys, args)
    local node, most = args[2], tonumber(args[3])
    local queues, counters = {}, {}
    for _, lane in ipairs(lanes_near(pool, node)) do
        for _, tenant in ipairs(call('ZRANGE', pool.prefix .. 'l:' .. lane, 0, MOST_TIES - 1)) do
            counters[tenant] = counter(pool, tenant)
            local jobs = call('ZRANGE', key_of_queue(pool, lane, tenant), 0, most - 1, 'WITHSCORES')
            queues[#queues + 1] = { tenant, jobs, 1 }
        end
    end
    local bodies = {}
    for _ = 1, most do
        local best, value, ticket
        for _, queue in ipairs(queues) do
            local head = tonumber(queue[2][queue[3] + 1])
            local its = counters[queue[1]]
            if head and (not best or its < value or its == value and head < ticket) then best, value, ticket = queue, its, head end
        end
        if not best then break end
        local job = best[2][best[3]]
        best[3] = best[3] + 2
        local record = record_of(pool, job)
        bodies[#bodies + 1] = call('GET', pool.prefix .. 'b:' .. job)
        if not record[R_CHARGED] then
            counters[best[1]] = counters[best[1]] + price(record, record[R_PROMPT])
        end
    end
    finish_step(pool)
    return bodies
end

-- What ends an attempt.

local function live_record(pool, job, attempt)
    local record = record_of(pool, job)
    return record and record[R_PHASE] == RUNNING and record[R_ATTEMPT] == attempt and record
end

-- ARGV: job, attempt and tokens in turns. Returns the places, from 0, of those whose lease is lost.
local function renew(keys, args)
    local pool = begin(keys, args)
    local lost = {}
    for place = 2, #args, 3 do
        local job = args[place]
        local record = live_record(pool, job, tonumber(args[place + 1]))
        if record then
            local before = record[R_OUTPUT]
            charge_output(pool, record, tonumber(args[place + 2]))
            if record[R_OUTPUT] ~= before then save(pool, job, record) end
            call('ZADD', pool.prefix .. 'due', pool.now + pool.config[C_LEASE], job)
        else
            lost[#lost + 1] = (place - 2) / 3
        end
    end
    finish_step(pool)
    return lost
end

-- ARGV: job, attempt, how: `over` with outcome and four counts, `retry` with a reason, `give_back`. Returns 1, or 0 where the
-- lease is lost.
local function settle(keys, args)
    local pool = begin(keys, args)
    local job, how = args[2], args[4]
    local record = live_record(pool, job, tonumber(args[3]))
    if record then
        if how == 'over' then
            charge_output(pool, record, tonumber(args[8]))
            stop_running(pool, job, record)
            local counts = { tonumber(args[6]), tonumber(args[7]), tonumber(args[8]), tonumber(args[9]) }
            finish(pool, job, record, { args[5], counts[1], counts[2], counts[3], counts[4], '', '' })
        else
            end_attempt(pool, job, record, how == 'retry' and args[5] or nil)
        end
    end
    finish_step(pool)
    return record and 1 or 0
end

-- Keeps what the client already has for the next delivery. Never fewer than before: an older message may come late.
local function hand_in(pool, job, record, num, tokens)
    if num >= record[R_RESUMED] then
        record[R_RESUMED] = num
        save(pool, job, record)
        call('SET', pool.prefix .. 'r:' .. job, tokens, 'PX', TTL_MS)
    end
end

-- ARGV: job, number of tokens, tokens. Returns 1 where the next delivery has them.
local function resume(keys, args)
    local pool = begin(keys, args)
    local record = record_of(pool, args[2])
    local waits = record and record[R_PHASE] == QUEUED
    if waits then hand_in(pool, args[2], record, tonumber(args[3]), args[4]) end
    finish_step(pool)
    return waits and 1 or 0
end

-- ARGV: job, attempt, number of tokens, tokens. Returns 1 where the job waits again, or is settled.
local function take_back(keys, args)
    local pool = begin(keys, args)
    local job, attempt, num = args[2], tonumber(args[3]), tonumber(args[4])
    local record = record_of(pool, job)
    local is_last = record and attempt > 0 and record[R_ATTEMPT] == attempt and record[R_PHASE] ~= OVER
    if is_last then
        hand_in(pool, job, record, num, args[5])
        if record[R_PHASE] == RUNNING then
            local node = record[R_NODE]
            post(pool, 'c:' .. node, { job, attempt })
            local has_retired = call('ZSCORE', pool.prefix .. 'retired', node)
            end_attempt(pool, job, record, not has_retired and 'its gateway could read no more of it' or nil)
        end
    end
    finish_step(pool)
    return is_last and 1 or 0
end

-- ARGV: job. Returns where it stood.
local function cancel(keys, args)
    local pool = begin(keys, args)
    local job = args[2]
    local record = record_of(pool, job)
    local phase = record and record[R_PHASE] or OVER
    if phase == QUEUED then
        dequeue(pool, job, record)
        finish_unsaid(pool, job, record, 'caller_left', 'shutting_down')
    elseif phase == RUNNING and not record[R_CANCELLED] then
        record[R_CANCELLED] = true
        save(pool, job, record)
        post(pool, 'c:' .. record[R_NODE], { job, record[R_ATTEMPT] })
    end
    finish_step(pool)
    return STATES[phase]
end

-- What is in a mailbox, number and note, but for what is too old. Notes stay there until their reader says that it has them, so
-- that none is lost with an answer that does not arrive.
local function read_notes(pool, box, had)
    local name, drop, notes = pool.prefix .. box, 0, {}
    local all = call('LRANGE', name, 0, 2 * MOST_AT_ONCE - 1)
    for _, packed in ipairs(all) do
        local number, posted, note = unpack(read_packed(packed))
        if number > had and pool.now - posted <= pool.config[C_REMEMBER] then
            notes[#notes + 1] = { string.format('%.0f', number), note }
        elseif #notes == 0 then
            drop = drop + 1
        end
    end
    if drop > 0 then call('LTRIM', name, drop, -1) end
    return notes
end

-- ARGV: node, the number of the last that it has. Finds jobs and attempts.
local function look_cancelled(keys, args)
    local pool = begin(keys, args)
    return looked(pool, -1, read_notes(pool, 'c:' .. args[2], tonumber(args[3])))
end

-- ARGV: gateway, the number of the last that it has. Finds jobs, what happened to them, and of those that are settled how. A
-- settlement that another gateway has been given meanwhile is that one's.
local function look_notices(keys, args)
    local pool = begin(keys, args)
    local gateway, notices = args[2], {}
    for _, numbered in ipairs(read_notes(pool, 'n:' .. gateway, tonumber(args[3]))) do
        local note = numbered[2]
        local is_its = note[2] ~= 2 or call('ZSCORE', pool.prefix .. 'owns:' .. gateway, note[1])
        if is_its then notices[#notices + 1] = numbered end
    end
    return looked(pool, next_change(pool), notices)
end

-- Gateways.

-- ARGV: gateway.
local function gateway_heartbeat(keys, args)
    local pool = begin(keys, args)
    call('ZADD', pool.prefix .. 'gateways', pool.now + pool.config[C_HEARTBEAT], args[2])
    finish_step(pool)
    return 0
end

-- ARGV: gateway. Finds settlements of gateways that are gone, and gives them to this one: job, account, how it ended.
local function look_orphaned(keys, args)
    local pool = begin(keys, args)
    local prefix, gateway, orphans = pool.prefix, args[2], {}
    local function adopt(job, owner)
        local unposted = read_packed(call('HGET', prefix .. 'unposted', job))
        own(pool, gateway, job, owner or unposted[1])
        unposted[1] = gateway
        call('HSET', prefix .. 'unposted', job, pack(unposted))
        call('ZADD', prefix .. 'adopted', pool.now + WRITE_DOWN_MS, job)
        orphans[#orphans + 1] = { job, unposted[2], unposted[3] }
    end
    for _, job in ipairs(call('ZRANGEBYSCORE', prefix .. 'adopted', '-inf', pool.now, 'LIMIT', 0, MOST_AT_ONCE)) do adopt(job) end
    for _, owner in ipairs(call('HKEYS', prefix .. 'owners')) do
        local lapses = owner ~= gateway and (tonumber(call('ZSCORE', prefix .. 'gateways', owner) or 0))
        if lapses and lapses <= pool.now then
            local left = MOST_AT_ONCE - #orphans
            for _, job in ipairs(left > 0 and call('ZRANGE', prefix .. 'owns:' .. owner, 0, left - 1) or {}) do
                adopt(job, owner)
            end
        end
    end
    return looked(pool, LOOK_FOR_LOST_MS, orphans)
end

-- ARGV: jobs whose settlements are written down.
local function acknowledge(keys, args)
    local pool = begin(keys, args)
    for place = 2, #args do forget_unposted(pool, args[place]) end
    finish_step(pool)
    return 0
end

-- Nodes.

local function forget_order(pool, number, text)
    local prefix, kind = pool.prefix, string.sub(text, 1, 1)
    local about = call('HGET', prefix .. 'about', number)
    if about then
        call('HDEL', prefix .. (kind == 't' and 'down' or 'drains'), about)
        call('HDEL', prefix .. 'about', number)
    end
    call('ZREMRANGEBYSCORE', prefix .. 'orders', number, number)
end

-- ARGV: node, what it says. Returns the number of the newest order.
local function heartbeat(keys, args)
    local pool = begin(keys, args)
    local prefix, node = pool.prefix, args[2]
    call('ZADD', prefix .. 'nodes', pool.now + pool.config[C_HEARTBEAT], node)
    call('HSET', prefix .. 'status', node, args[3])
    call('ZREM', prefix .. 'lost', '+' .. node)
    call('ZREM', prefix .. 'retired', node)
    finish_step(pool)
    return pool.state[S_ORDER]
end

-- ARGV: node.
local function retire(keys, args)
    local pool = begin(keys, args)
    local prefix, node = pool.prefix, args[2]
    call('ZREM', prefix .. 'nodes', node)
    call('HDEL', prefix .. 'status', node)
    call('ZADD', prefix .. 'retired', pool.now, node)
    local order = call('HGET', prefix .. 'drains', node)
    if order then
        forget_order(pool, order, 'd')
    end
    lose_lane(pool, node)
    finish_step(pool)
    return 0
end

-- Returns what each live node says, and how many wait in its lane.
local function lanes(keys, args)
    local pool = begin(keys, args)
    local said = {}
    for _, node in ipairs(call('ZRANGEBYSCORE', pool.prefix .. 'nodes', '(' .. pool.now, '+inf')) do
        said[#said + 1] = { call('HGET', pool.prefix .. 'status', node) or '', call('ZCARD', pool.prefix .. 'w:+' .. node) }
    end
    finish_step(pool)
    return said
end

-- Orders.

local function settle_taken_down(pool)
    for _, lane in ipairs(call('ZRANGE', pool.prefix .. 'lanes', 0, -1)) do
        for _, job in ipairs(call('ZRANGE', pool.prefix .. 'w:' .. lane, 0, -1)) do
            local record = record_of(pool, job)
            if record and is_taken_down(pool, record) then
                dequeue(pool, job, record)
                finish_unsaid(pool, job, record, 'taken_down', 'taken_down')
            end
        end
    end
end

-- ARGV: kind (t, p or d), the version or node it is about, the order as JSON.
local function order(keys, args)
    local pool = begin(keys, args)
    local prefix, state, kind, about, text = pool.prefix, pool.state, args[2], args[3], args[4]
    local stands
    if kind == 't' then stands = call('HEXISTS', prefix .. 'down', about) == 1 end
    if kind == 'd' then stands = call('HEXISTS', prefix .. 'drains', about) == 1 end
    local pinned = state[S_PINNED]
    if kind == 'p' and pinned > 0 then
        local before = call('ZRANGEBYSCORE', prefix .. 'orders', pinned, pinned)[1]
        stands = before and string.match(before, '^p%d+ (.*)$') == text
        if not stands then call('ZREMRANGEBYSCORE', prefix .. 'orders', pinned, pinned) end
    end
    if not stands then
        state[S_ORDER] = state[S_ORDER] + 1
        local number = string.format('%.0f', state[S_ORDER])
        call('ZADD', prefix .. 'orders', number, kind .. number .. ' ' .. text)
        if kind == 'p' then
            state[S_PINNED] = state[S_ORDER]
        else
            call('HSET', prefix .. (kind == 't' and 'down' or 'drains'), about, number)
            call('HSET', prefix .. 'about', number, about)
        end
        if call('ZCARD', prefix .. 'orders') > ORDERS_KEPT then
            local oldest = call('ZRANGE', prefix .. 'orders', 0, 0, 'WITHSCORES')
            forget_order(pool, oldest[2], oldest[1])
        end
        if kind == 't' then settle_taken_down(pool) end
        ring(pool, 'orders')
    end
    finish_step(pool)
    return 0
end

-- ARGV: a number. Finds orders with a higher one: the number and the order as JSON.
local function look_orders(keys, args)
    local pool = begin(keys, args)
    local found = {}
    for _, text in ipairs(call('ZRANGEBYSCORE', pool.prefix .. 'orders', '(' .. args[2], '+inf')) do
        local number, order = string.match(text, '^%a(%d+) (.*)$')
        found[#found + 1] = { number, order }
    end
    return looked(pool, -1, found)
end

-- Dead letters and figures.

-- ARGV: a number. Returns letters with a higher one, at most 50: number, deliveries, reason, the lane, the gateway's text, and
-- body and tokens.
local function dead_letters(keys, args)
    local pool = begin(keys, args)
    local letters = {}
    local some = call('ZRANGEBYSCORE', pool.prefix .. 'dead', '(' .. args[2], '+inf', 'WITHSCORES', 'LIMIT', 0, 50)
    for place = 1, #some, 2 do
        local packed = call('GET', pool.prefix .. 'd:' .. some[place])
        if packed then
            local record, body, resumed, deliveries, reason = unpack(read_packed(packed))
            letters[#letters + 1] = { some[place + 1], deliveries, reason, record[R_LANE], body or '', resumed or '' }
        else
            letters[#letters + 1] = { some[place + 1], 0, '', '', '', '' }
        end
    end
    finish_step(pool)
    return letters
end

-- ARGV: job. Returns 1, or 0 where it is no dead letter.
local function replay(keys, args)
    local pool = begin(keys, args)
    local prefix, job = pool.prefix, args[2]
    local packed = call('GET', prefix .. 'd:' .. job)
    local is_dead = packed and call('ZREM', prefix .. 'dead', job) == 1
    if is_dead then
        call('DEL', prefix .. 'd:' .. job)
        local record, body, resumed = unpack(read_packed(packed))
        local known = record_of(pool, job)
        -- Attempts go on, so that those of the first life stay fenced off.
        if known then record[R_ATTEMPT] = known[R_ATTEMPT] end
        record[R_DEADLINE], record[R_DELIVERIES], record[R_SETTLED], record[R_HAS_ACCOUNT] = false, 0, true, false
        call('SET', prefix .. 'b:' .. job, body, 'PX', TTL_MS)
        if resumed then call('SET', prefix .. 'r:' .. job, resumed, 'PX', TTL_MS) end
        call('ZREM', prefix .. 'over', job)
        enqueue(pool, job, record)
    end
    finish_step(pool)
    return is_dead and 1 or 0
end

-- Returns how many wait, run and are dead, and of each lane its name, how many wait, how long the oldest has or -1, and whether
-- its node lives.
local function stats(keys, args)
    local pool = begin(keys, args)
    local prefix, seen, said = pool.prefix, {}, {}
    local function add(lane, oldest)
        if seen[lane] then return end
        seen[lane] = true
        local live = lane ~= '-' and is_live(pool, string.sub(lane, 2))
        said[#said + 1] = { lane, call('ZCARD', prefix .. 'w:' .. lane), oldest, live and 1 or 0 }
    end
    local waiting = call('ZRANGE', prefix .. 'lanes', 0, -1, 'WITHSCORES')
    for place = 1, #waiting, 2 do add(waiting[place], pool.now - tonumber(waiting[place + 1])) end
    for _, node in ipairs(call('ZRANGEBYSCORE', prefix .. 'nodes', '(' .. pool.now, '+inf')) do add('+' .. node, -1) end
    finish_step(pool)
    return { pool.state[S_QUEUED], pool.state[S_RUNNING], call('ZCARD', prefix .. 'dead'), said }
end

-- Lets time pass, for whoever waits.
local function tick(keys, args)
    finish_step(begin(keys, args))
    return 0
end

-- Steps that let go of something run in a server that has no memory left, too.
local function register(name, callback, flags)
    redis.register_function({ function_name = 'souk_queue_1_' .. name, callback = callback, flags = flags })
end

local LETS_GO = { 'allow-oom' }
register('submit', submit, {})
register('claim', claim, LETS_GO)
register('look_work', look_work, LETS_GO)
register('peek', peek, LETS_GO)
register('renew', renew, LETS_GO)
register('settle', settle, LETS_GO)
register('resume', resume, LETS_GO)
register('take_back', take_back, LETS_GO)
register('cancel', cancel, LETS_GO)
register('look_cancelled', look_cancelled, LETS_GO)
register('look_notices', look_notices, LETS_GO)
register('gateway_heartbeat', gateway_heartbeat, LETS_GO)
register('look_orphaned', look_orphaned, LETS_GO)
register('acknowledge', acknowledge, LETS_GO)
register('heartbeat', heartbeat, LETS_GO)
register('retire', retire, LETS_GO)
register('lanes', lanes, LETS_GO)
register('order', order, LETS_GO)
register('look_orders', look_orders, LETS_GO)
register('dead_letters', dead_letters, LETS_GO)
register('replay', replay, {})
register('stats', stats, LETS_GO)
register('tick', tick, LETS_GO)
