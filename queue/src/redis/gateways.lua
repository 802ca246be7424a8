-- What gateways say of themselves and of each other.

-- ARGV: gateway, then jobs and the tokens that it has delivered of each. Returns which life of the pool this is.
local function gateway_heartbeat(keys, args)
    local pool = begin(keys, args)
    hear_of(pool, args[2])
    for place = 3, #args, 2 do
        local job = args[place]
        local record = record_of(pool, job)
        if record and record[R_PHASE] ~= OVER then
            record[R_DELIVERED] = tonumber(args[place + 1])
            save(pool, job, record)
        end
    end
    finish_step(pool)
    return string.format('%.0f', pool.state[S_BORN])
end

-- Ends what waits of some open requests of a lost gateway.
local function drop_left(pool, owner)
    local name = pool.prefix .. 'owns:' .. owner
    for _, request in ipairs(call('ZRANGEBYSCORE', name, -1, -1, 'LIMIT', 0, MOST_AT_ONCE)) do
        local fields = call('HGETALL', pool.prefix .. 'p:' .. request)
        -- Of one that was forgotten nobody is to know.
        if #fields == 0 then call('ZREM', name, request) end
        for place = 1, #fields, 2 do
            local job = request .. '/' .. fields[place]
            local record = fields[place + 1] == '' and record_of(pool, job)
            if record and record[R_PHASE] == QUEUED then drop_waiting(pool, job, record) end
        end
    end
end

-- Gives a request to a gateway instead of whoever had it before: the request, its account, and of its jobs index, tokens that
-- were delivered and how they ended. Nil if it is open again or forgotten.
local function adopt(pool, gateway, request)
    local prefix = pool.prefix
    local name = prefix .. 'p:' .. request
    local about = call('HMGET', name, 'owner', 'account', 'open')
    if not about[1] or tonumber(about[3] or 0) > 0 then
        call('ZREM', prefix .. 'adopted', request)
        return nil
    end
    call('ZREM', prefix .. 'owns:' .. about[1], request)
    own(pool, gateway, request, pool.now)
    call('HSET', name, 'owner', gateway)
    call('ZADD', prefix .. 'adopted', pool.now + WRITE_DOWN_MS, request)
    local fields, jobs = call('HGETALL', name), {}
    for place = 1, #fields, 2 do
        local index = tonumber(fields[place])
        if index then
            local delivered, settled = unpack(read_packed(fields[place + 1]))
            jobs[#jobs + 1] = { index, delivered, settled }
        end
    end
    return { request, about[2], jobs }
end

-- ARGV: gateway. Finds requests of gateways that are gone, and gives them to this one.
local function look_orphaned(keys, args)
    local pool = begin(keys, args)
    local prefix, gateway, orphans = pool.prefix, args[2], {}
    local given = {}
    local function give(requests)
        for _, request in ipairs(requests) do
            local orphan = not given[request] and adopt(pool, gateway, request)
            if orphan then
                orphans[#orphans + 1], given[request] = orphan, true
            end
        end
    end
    give(call('ZRANGEBYSCORE', prefix .. 'adopted', '-inf', pool.now, 'LIMIT', 0, MOST_AT_ONCE))
    for _, owner in ipairs(call('SMEMBERS', prefix .. 'owners')) do
        if owner ~= gateway and is_lost(pool, owner) then
            drop_left(pool, owner)
            local name, left = prefix .. 'owns:' .. owner, MOST_AT_ONCE - #orphans
            if left > 0 then give(call('ZRANGEBYSCORE', name, 0, '+inf', 'LIMIT', 0, left)) end
            if call('ZCARD', name) == 0 then call('SREM', prefix .. 'owners', owner) end
        end
    end
    return looked(pool, LOOK_FOR_LOST_MS, orphans)
end

-- ARGV: requests that are written down.
local function acknowledge(keys, args)
    local pool = begin(keys, args)
    for place = 2, #args do forget_unposted(pool, args[place]) end
    finish_step(pool)
    return 0
end

-- ARGV: requests. Returns the places, from 0, of those that are to be written down, now or when they are over.
local function unposted(keys, args)
    local pool = begin(keys, args)
    local places = {}
    for place = 2, #args do
        if call('EXISTS', pool.prefix .. 'p:' .. args[place]) == 1 then places[#places + 1] = place - 2 end
    end
    finish_step(pool)
    return places
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
register('unposted', unposted, LETS_GO)
register('heartbeat', heartbeat, LETS_GO)
register('retire', retire, LETS_GO)
register('lanes', lanes, LETS_GO)
register('order', order, LETS_GO)
register('look_orders', look_orders, LETS_GO)
register('dead_letters', dead_letters, LETS_GO)
register('replay', replay, {})
register('stats', stats, LETS_GO)
register('tick', tick, LETS_GO)
