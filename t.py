import sys,numpy as np
from scipy.signal import butter,cheby1,lfilter
from gloree import SystemIdentifier
def sat(v): return np.where(v>0,1.2*np.tanh(v/1.2),0.7*np.tanh(v/0.7))
for label,kw,second,inp in (("n4",dict(n_linear=4),cheby1(2,1.,.15),None),("n4q3",dict(n_linear=4,n_nonlinear=3),cheby1(2,1.,.15),None),("band",dict(),cheby1(2,1.,.15),butter(2,.4)),("band n4",dict(n_linear=4),cheby1(2,1.,.15),butter(2,.4))):
    first=butter(2,.25)
    rng=np.random.default_rng(0)
    u=rng.standard_normal(18000)
    if inp: u=lfilter(*inp,u); u/=u.std()
    u*=2
    v=lfilter(*first,u); c=lfilter(*second,sat(v)); y=c+.003*c.std()*rng.standard_normal(u.size)
    e=SystemIdentifier(max_seconds=6,**kw).fit(u[:12000],y[:12000])
    r=e.report_
    print(label,[ (s.name,round(s.seconds,2),s.detail) for s in r.stages])
    print('   ',r.linear_error,r.moments_error,r.refined_error, np.sort(np.abs(r.poles)))
    t=slice(12000,None)
    for m in (e.linear_model_,e.moments_model_,e.model_):
        print('   ',np.std((y[t]-m.predict(u[t][:,None])[:,0])[50:])/y.std(),end='')
    print(flush=True)
print(np.abs(np.roots(first[1])),np.abs(np.roots(second[1])))
