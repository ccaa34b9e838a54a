package customers

import (
	"context"

	customersv1 "github.com/sallyport-mcp/sallyport/pkg/gen/sallyport/tools/customers/v1"
)

// GetCustomer implements [customersv1.CustomersServiceServer].
func (s *Service) GetCustomer(ctx context.Context, req *customersv1.GetCustomerRequest) (*customersv1.GetCustomerResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	c, err := s.store.get(ctx, req.GetCustomerId())
	if err != nil {
		return nil, explain(ctx, req.GetCustomerId(), err)
	}
	return &customersv1.GetCustomerResponse{
		CustomerId: req.GetCustomerId(),
		Name:       c.name,
		Email:      c.email,
		Country:    c.country,
		Plan:       c.plan,
		Created:    c.created,
		Orders:     c.orders,
	}, nil
}

// DeleteCustomerAccount implements [customersv1.CustomersServiceServer]. The
// reason in the request is for the audit log, which has it from the executor.
func (s *Service) DeleteCustomerAccount(ctx context.Context, req *customersv1.DeleteCustomerAccountRequest) (*customersv1.DeleteCustomerAccountResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	orders, err := s.store.remove(ctx, req.GetCustomerId())
	if err != nil {
		return nil, explain(ctx, req.GetCustomerId(), err)
	}
	s.log.InfoContext(ctx, "customer account deleted", "customer_id", req.GetCustomerId(), "orders", orders)
	return &customersv1.DeleteCustomerAccountResponse{
		CustomerId:    req.GetCustomerId(),
		Deleted:       true,
		OrdersDeleted: orders,
	}, nil
}
