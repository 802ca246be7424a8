#!lua name=souk_queue_1
-- The queue of one pool. Each function is one step over the keys of that pool, which are in one slot (souk:{q…}:…).
--
-- KEYS[1] is the pool's state; all other keys begin as it does. ARGV[1] is the settings as nine numbers in one text; what follows
-- is said at each function. Texts that name a lane begin with + before a node's name, and the lane of jobs without a preference
-- is -.
--
--   state    numbers of the pool, packed: see S_…
--   j:JOB    what is known of a job, packed: see R_…        b:JOB    the job as it was submitted, which nobody here looks into
--   r:JOB    tokens that its gateway handed in
--   p:REQUEST  what is to be written down of a request: owner, account, open (how many of its jobs are), and by index of each job
--              how it ended, or nothing
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
--   owns:GATEWAY  requests that a gateway is to write down, by when they came to be over, or -1 where they are open
--   owners   gateways that have any                         posts    requests that are over and not written down, by number
--   adopted  those of them that another had before, and when they are given again
--   popular  what gateways say of the adapters that are asked for, and until when it is believed
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
local MOST_LANES, MOST_TIES = 64, 4
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
-- Before which moment nothing falls due, before which no lane falls behind, and when that was looked at last.
local S_DUE, S_BEHIND, S_LOOKED = 17, 18, 19
-- When this life of the pool began, in microseconds of the server's clock: which one it is.
local S_BORN = 20
local STATE = '<dddddddddddddddddddd'

-- What is known of a job.
local R_PHASE, R_TENANT, R_LANE, R_GATEWAY, R_PRIORITY, R_PROMPT, R_DIGESTS, R_TICKET = 1, 2, 3, 4, 5, 6, 7, 8
local R_SINCE, R_DEADLINE, R_ATTEMPT, R_DELIVERIES, R_CHARGED, R_OUTPUT, R_SETTLED = 9, 10, 11, 12, 13, 14, 15
local R_NODE, R_CANCELLED, R_RESUMED, R_HAS_ACCOUNT, R_DELIVERED = 16, 17, 18, 19, 20
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
    if not pool.has_left[tenant] then call('ZADD', pool.prefix .. 'waiting', 'XX', value, tenant) end
end

local function lowest_waiting(pool)
    local lowest = call('ZRANGE', pool.prefix .. 'waiting', 0, 0, 'WITHSCORES')
    return lowest[2] and tonumber(lowest[2])
end

local function arrive(pool, tenant)
    if call('HINCRBY', pool.prefix .. 'queued', tenant, 1) == 1 then
        local known, prefix = call('ZSCORE', pool.prefix .. 'vtc', tenant), pool.prefix
        local value = max(tonumber(known or 0), lowest_waiting(pool) or pool.state[S_FLOOR])
        pool.counters[tenant], pool.has_left[tenant] = value, nil
        call('ZADD', prefix .. 'waiting', value, tenant)
        if tonumber(known) ~= value then call('ZADD', prefix .. 'vtc', value, tenant) end
    end
end

local function depart(pool, tenant)
    if call('HINCRBY', pool.prefix .. 'queued', tenant, -1) > 0 then return end
    local prefix, state = pool.prefix, pool.state
    call('HDEL', prefix .. 'queued', tenant)
    call('ZREM', prefix .. 'waiting', tenant)
    state[S_FLOOR] = max(state[S_FLOOR], lowest_waiting(pool) or counter(pool, tenant))
    pool.has_left[tenant] = true
    -- What is no higher than the floor would be lifted to it anyway.
    if state[S_TICKET] % 16 == 0 and call('ZCARD', prefix .. 'vtc') > COUNTERS_KEPT + 2 * call('ZCARD', prefix .. 'waiting') then
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
    if call('RPUSH', name, pack({ state[S_NOTE], pool.now, note })) == 1 then call('PEXPIRE', name, TTL_MS) end
    call('ZADD', pool.prefix .. 'boxes', pool.now, box)
    ring(pool, box)
end

local function notify(pool, gateway, note)
    post(pool, 'n:' .. gateway, note)
end

-- Whether a gateway has been silent for too long.
local function is_lost(pool, gateway)
    return tonumber(call('ZSCORE', pool.prefix .. 'gateways', gateway) or 0) <= pool.now
end

-- A gateway says something, so it lives.
local function hear_of(pool, gateway)
    call('ZADD', pool.prefix .. 'gateways', pool.now + pool.config[C_HEARTBEAT], gateway)
end

-- A request of this job and the job's index in it.
local function request_of(job)
    return string.match(job, '^(.*)/(%d+)$')
end

-- A gateway is to write a request down, which came to be over at a moment, or is open.
local function own(pool, gateway, request, moment)
    local prefix = pool.prefix
    call('SADD', prefix .. 'owners', gateway)
    call('ZADD', prefix .. 'owns:' .. gateway, moment or -1, request)
    call('PEXPIRE', prefix .. 'owns:' .. gateway, TTL_MS)
end

-- A job of a gateway's is queued that has an account. Should others have been given the request, it is this one's again.
local function open_account(pool, job, gateway, account)
    local prefix = pool.prefix
    local request, index = request_of(job)
    local name = prefix .. 'p:' .. request
    local before = call('HGET', name, 'owner')
    if not before then
        call('HSET', name, 'owner', gateway, 'account', account, 'open', 1, index, '')
        call('PEXPIRE', name, TTL_MS)
        return own(pool, gateway, request)
    end
    if call('HSETNX', name, index, '') == 0 then return end
    if before ~= gateway then
        call('HSET', name, 'owner', gateway)
        call('ZREM', prefix .. 'owns:' .. before, request)
        call('ZREM', prefix .. 'adopted', request)
    end
    if call('HINCRBY', name, 'open', 1) == 1 then
        own(pool, gateway, request)
        call('ZREM', prefix .. 'posts', request)
    end
end

local function forget_unposted(pool, request)
    local prefix = pool.prefix
    local owner = call('HGET', prefix .. 'p:' .. request, 'owner')
    if not owner then return end
    call('DEL', prefix .. 'p:' .. request)
    call('ZREM', prefix .. 'owns:' .. owner, request)
    call('ZREM', prefix .. 'posts', request)
    call('ZREM', prefix .. 'adopted', request)
end

-- Keeps how a job ended. One of a request that is written down already is nobody's.
local function keep_unposted(pool, job, settled)
    local prefix, state = pool.prefix, pool.state
    local request, index = request_of(job)
    local name = prefix .. 'p:' .. request
    local ended, owner, open = unpack(call('HMGET', name, index, 'owner', 'open'))
    if ended ~= '' then return end
    call('HSET', name, index, pack(settled), 'open', open - 1)
    if open - 1 > 0 then return end
    state[S_POST] = state[S_POST] + 1
    call('ZADD', prefix .. 'posts', state[S_POST], request)
    -- It is there, as an open one.
    call('ZADD', prefix .. 'owns:' .. owner, pool.now, request)
    -- Looked at now and then, so that a few more may be there for a while.
    local excess = state[S_POST] % 64 == 0 and call('ZCARD', prefix .. 'posts') - UNPOSTED_KEPT or 0
    for _, oldest in ipairs(excess > 0 and call('ZRANGE', prefix .. 'posts', 0, excess - 1) or {}) do
        forget_unposted(pool, oldest)
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
    if record[R_HAS_ACCOUNT] then
        keep_unposted(pool, job, { record[R_DELIVERED], { record[R_ATTEMPT], unpack(settled) } })
    end
    notify(pool, record[R_GATEWAY], { job, 1, record[R_ATTEMPT], unpack(settled) })
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

