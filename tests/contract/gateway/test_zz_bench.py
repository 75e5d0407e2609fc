import asyncio, json, sys, os, pathlib, time, glob
import pytest
async def test_bench(world, model_file, github):
    p=github('completed')
    p['pad']='x'*8000
    pathlib.Path('/tmp/payload.json').write_text(json.dumps(p))
    base=1000000
    async def gen(hook,n,conc):
        nonlocal base
        base+=100000
        pr=await asyncio.create_subprocess_exec(sys.executable,'/tmp/gen.py',f'{world.url}/hooks/{hook.id}',hook.secret,str(n),str(conc),str(base),stdout=asyncio.subprocess.PIPE)
        out,_=await pr.communicate(); return out.decode().strip()
    t=await world.tenant(); h=await world.hook(t)
    print('\nno model:', await gen(h,300,8))
    print('no model:', await gen(h,1500,8))
    print('no model c1:', await gen(h,600,1))
    print('no model c64:', await gen(h,1500,64))
    await world.promote(t,model_file)
    print('small model:', await gen(h,1500,8))
    await world.trigger(t,condition="event.outcome == 'failure' && prediction.retry.probability >= 2.0")
    print('model+trigger:', await gen(h,1500,8))
    print('prediction p:', [s for s in (await world.ask('GET','/metrics')).body.splitlines() if 'prediction_seconds_sum' in s or 'prediction_seconds_count' in s or 'ingest_seconds_sum' in s or 'ingest_seconds_count' in s])
    # unsigned
    out=await gen(type(h)(id=h.id,secret='wrong',integration=h.integration,uid=h.uid,tenant=t),1500,8); print('refused:',out)
    from dev import simulator
    from datetime import datetime,UTC
    t2=await world.tenant(); await world.hook(t2,projects=[p.name for p in simulator.ORGANISATION],name='whole')
    rec=[json.dumps(r) for r in simulator.history(until=datetime(2026,3,2,9,tzinfo=UTC))]
    data='\n'.join(rec).encode()
    for _ in range(2):
        s=time.perf_counter(); a=await world.rest('POST',f'/v1/namespaces/{t2.namespace}/integrations/whole/history',data=data); print('import',len(data),a.body,time.perf_counter()-s)
